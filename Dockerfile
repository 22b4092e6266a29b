# A worker, or any command of the service:
#   docker build -t beamline-orchestration .
#   docker run --env-file .env -v beamline:/data beamline-orchestration ./create_deployments.sh bl832
#   docker run --env-file .env -v beamline:/data beamline-orchestration prefect worker start --pool new_file_832_pool
# Deployments are made from the image that runs them: they name its folders.
FROM python:3.13-slim

# Not root: the service needs nothing that only root may do. What must outlive a container (the ledger, the folders of
# jobs, local results) is by default below the home directory, which is the volume.
RUN useradd --create-home --home-dir /data --uid 10001 beamline
WORKDIR /app

# What changes seldom first, so that a change of the code does not install everything again.
COPY pyproject.toml README.md LICENSE ./
COPY orchestration/__init__.py orchestration/__init__.py
RUN pip install --no-cache-dir '.[science,postgresql]' && pip uninstall --yes beamline-orchestration

COPY . .
RUN pip install --no-cache-dir --no-deps .

USER beamline
VOLUME /data
CMD ["beamline", "--help"]
