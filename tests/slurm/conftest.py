from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_lab import Lab, client_library

from orchestration.sandbox.slurm import requirements
from orchestration.sandbox.slurm.cluster import Cluster
from orchestration.sandbox.slurm.serving import serving


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if obstacle := requirements.obstacle():
        pytest.skip(obstacle)
    cluster = Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    cluster.up()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="session")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with serving(cluster) as facility:
        words = facility.nersc_environment()
        with client_library().Client(
            Path(words["PATH_NERSC_CLIENT_ID"]).read_text().strip(),
            Path(words["PATH_NERSC_PRI_KEY"]).read_text(),
            api_base_url=words["SFAPI_API_URL"],
            token_url=words["SFAPI_TOKEN_URL"],
            wait_interval=0.2,
        ) as client:
            yield Lab(cluster=cluster, facility=facility, machine=client.compute("perlmutter"))
