"""Whose a measurement of 8-ID is: what its metadata file says, where it can be read, and else what its result says."""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.config import Endpoint, is_address
from orchestration.errors import ScanUnreadable
from orchestration.flows.aps8idi.catalogue import Described
from orchestration.flows.aps8idi.measurement import Measurement
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.work import Work
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json

_BLUESKY = "/entry/instrument/bluesky/metadata"

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "proposal": ("/entry/user/proposal_id", f"{_BLUESKY}/proposal_id"),
    "email": ("/entry/user/email", f"{_BLUESKY}/email", f"{_BLUESKY}/owner"),
    "owner": ("/entry/user/name", f"{_BLUESKY}/owner"),
    "title": ("/entry/title",),
}
"""By fact of the scan: where acquisition writes it, the best first."""

_NOTHING = {"unknown", "n/a", "na", "null", "john doe", "0", "-1"}
"""What is written where nothing is known."""


def known_by_path(work: Work, scan: Scan, payload: Payload) -> Scan:
    """The scan with the experiment in whose folder it lies; what is only said of that is for people."""
    return _learned(work, scan, {"experiment": payload.experiment_folder})


def known_by_file(work: Work, scan: Scan, source: Endpoint, measurement: Measurement) -> Scan:
    """The scan with what its metadata file says, if that can be read from here."""
    if source.mount is None:
        return scan
    # Takes long to import, and only those need it whose files can be read from here.
    from orchestration.flows.hdf5 import Reader, open_scan

    path = source.local_path(measurement.folder / measurement.metadata)
    try:
        with open_scan(path) as file:
            reader = Reader(file)
            said = {fact: [reader.text(path) for path in paths] for fact, paths in _FIELDS.items()}
    except ScanUnreadable as error:  # the job, which reads it too, says what is wrong with it
        work.logger.warning("it is not known whose %s is: %s", scan.path, error.what)
        return scan
    return _learned(work, scan, {fact: _first(fact, texts) for fact, texts in said.items()})


def known_by_result(work: Work, scan: Scan, metadata: Mapping[str, Json]) -> Scan:
    """The scan with what its result says (`project_metadata`), where its own file could not be asked."""
    described = Described.parse(metadata)
    owner = described.owner
    said = {"proposal": described.proposal, "owner": owner, "email": owner, "title": described.title}
    return _learned(work, scan, {fact: _first(fact, [text]) for fact, text in said.items() if not scan.facts.get(fact)})


def _first(fact: str, texts: list[str]) -> str:
    told = (text for text in texts if text and text.lower() not in _NOTHING)
    return next((text for text in told if fact != "email" or is_address(text)), "")


def _learned(work: Work, scan: Scan, facts: Mapping[str, str]) -> Scan:
    new: Document = {name: text for name, text in facts.items() if text and scan.facts.get(name) != text}
    if not new:
        return scan
    work.ledger.scans.learn(scan.id, new)
    return work.ledger.scans.get(scan.id)
