# A worker, or any command of the service:
#   docker build -t beamline-orchestration .
#   docker run --env-file .env beamline-orchestration prefect worker start -p new_file_832_pool
FROM python:3.13-slim

# Not root: the service needs nothing that only root may do.
RUN useradd --create-home --uid 10001 beamline
WORKDIR /app

# What changes seldom first, so that a change of the code does not install everything again.
COPY pyproject.toml README.md LICENSE ./
COPY orchestration/__init__.py orchestration/__init__.py
RUN pip install --no-cache-dir '.[science,postgresql]' && pip uninstall --yes beamline-orchestration

COPY . .
RUN pip install --no-cache-dir --no-deps . && mkdir -p /data && chown -R beamline /app /data

USER beamline
# The ledger and the folders of jobs outlive the container only if this is a volume.
VOLUME /data
ENV BEAMLINE_CONFIG=/app/config.yml \
    BEAMLINE_LEDGER_URL=sqlite:////data/ledger.sqlite \
    BEAMLINE_LOCAL_RAW=/data/raw \
    BEAMLINE_LOCAL_SCRATCH=/data/scratch
CMD ["beamline", "--help"]
