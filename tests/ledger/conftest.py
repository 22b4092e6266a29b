"""A ledger on a real database, and a service that keeps its books on disk so that it outlives a killed process."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_world import Books
from sqlalchemy import create_engine, make_url, text

from orchestration.ledger import Ledger
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.sqlite"
        return
    server = os.environ.get("BEAMLINE_TEST_POSTGRESQL_URL")
    if server is None:
        pytest.skip("BEAMLINE_TEST_POSTGRESQL_URL is not set: see scripts/install_postgresql.sh")
    name = f"ledger_{uuid.uuid4().hex[:8]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    admin.dispose()


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url, lease_seconds=10.0) as ledger:
        yield ledger


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=RelativePath("raw/p1/tooth.h5"), fingerprint="1:2")


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "books")
