"""A bench without Prefect, a search index and a catalogue to publish in, and a scan of 8-ID to publish."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestration.config import Endpoint, ScicatSettings, Settings
from orchestration.config.beamline import Beamline
from orchestration.config.models import GlobusSettings
from orchestration.config.search import SearchSettings
from orchestration.config.xpcs import XpcsDeployment
from orchestration.flows.aps8idi.published import Publication
from orchestration.flows.publishing import publish
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.globus.publishing import Located, Record, RecordState
from orchestration.globus.search_entries import PublishRequest
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, PollSchedule, Service
from orchestration.paths import RelativePath
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.search.settings import INDEX, index_id

SUBJECT = "globus://11111111-2222-4333-8444-555555555555/2026-1/foster202603/A001/qmap_1"
TAKEN = datetime(2026, 3, 1, 17, 4, 5, tzinfo=UTC)
FAST = PollSchedule(first=0.02)


class Bench(Work):
    """Its stages are not shown by Prefect."""

    def _stage(
        self,
        operation: Operation[Any],
        service: Service[Any],
        schedule: PollSchedule | None,
        moves_after: float | None,
        *,
        redo: bool,
    ) -> Outcome:
        return perform(self.ledger, operation, service, run_id=self.run_id, schedule=FAST, redo=redo)


def the_settings(scicat: ScicatSettings | None = None) -> Settings:
    public = {"uuid": index_id(INDEX), "visible_to": ["public"], "publisher": "APS", "creators": ["8-ID"]}
    beamline = dict.fromkeys(("acquisition", "server", "scratch", "raw"), "voyager")
    return Settings(
        globus=GlobusSettings(globus_endpoints={"voyager": Endpoint(root_path="/8IDI")}),
        beamlines={"aps8idi": Beamline.model_validate(beamline)},
        search=SearchSettings.model_validate({"indexes": {INDEX: public}}),
        scicat=scicat or ScicatSettings(),
    )


def bench(ledger: Ledger, settings: Settings, services: Services) -> Bench:
    suspension = Suspension(ledger, "run", None, 60.0)
    return Bench(settings, ledger, services, "run", logging.getLogger("test"), suspension)


def a_scan(ledger: Ledger, *, export_controlled: bool = False) -> Scan:
    path = RelativePath("2026-1/secret/A001" if export_controlled else "2026-1/foster202603/A001")
    return ledger.scans.register(beamline="aps8idi", path=path, export_controlled=export_controlled)


def saying(title: str) -> PublishRequest:
    """Something about the one subject."""
    record = Record(title=title, created=TAKEN, state=RecordState.PLACEHOLDER)
    return record.request(the_settings().search.index(INDEX), subject=SUBJECT)


def say(ledger_url: str, title: str) -> str:
    """As one run does it, in a process that may be killed; returns the step."""
    settings = the_settings()
    with Ledger(ledger_url, lease_seconds=5.0) as ledger, closing(Services(settings)) as services:
        work = bench(ledger, settings, services)
        return publish(work, a_scan(ledger), saying(title), what="record").record.step


def a_publication(**changes: Any) -> Publication:
    deployment = XpcsDeployment(
        name="polaris",
        beamline="aps8idi",
        source="voyager",
        posix_root="/gdata/dm/8IDI",
        site="polaris",
        organization="Argonne National Laboratory",
        facility="APS",
    )
    values: dict[str, Any] = {
        "deployment": deployment,
        "title": "A001",
        "dataset": "A001",
        "experiment": "foster202603",
        "cycle": "2026-1",
        "raw": Located(name="A001.h5", endpoint="voyager", path="2026-1/foster202603/A001/A001.h5"),
        "qmap": Located(name="eiger.hdf", endpoint="voyager", path="qmaps/eiger.hdf"),
        "parent": "2026-1/foster202603",
        "parameters": {"type": "Multitau", "begin_frame": 0, "crop_ratio_threshold": 0.5},
        "taken": TAKEN,
    }
    return Publication(**(values | changes))


@dataclass(frozen=True)
class Shown:
    """The index, as it really is."""

    control: SandboxClient

    @property
    def titles(self) -> list[str]:
        entries: list[Any] = self.control.search.entries(index_id(INDEX))
        return [entry["content"]["dc"]["titles"][0]["title"] for entry in entries]

    @property
    def ingests(self) -> int:
        return len(self.control.effects("ingest"))

    def hold(self, *, held: bool = True) -> None:
        self.control.search.hold(index_id(INDEX), held=held)


def wait_until(holds: Callable[[], bool], *, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)


def stored(document: Document) -> Document:
    found: Document = json.loads(json.dumps(document))
    return found
