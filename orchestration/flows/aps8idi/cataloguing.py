"""Cataloguing a correlation, where there is a catalogue and the data may be told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestration.flows.aps8idi.catalogue import Described, ingest_raw, ingest_result
from orchestration.flows.aps8idi.checking import Checked
from orchestration.flows.results import Made
from orchestration.flows.work import Work
from orchestration.ledger.copy import RAW, CopyRecord, CopyState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json


def catalogue(work: Work, scan: Scan, checked: Checked, made: Made, drawn: Made, metadata: Mapping[str, Json]) -> None:
    """The records of the dataset and of its result; the latter belongs to where the result returned to."""
    if scan.export_controlled:
        work.logger.warning("export-controlled: nothing is catalogued")
        return
    if not work.settings.scicat.api_url:
        work.logger.info("no catalogue is set up (scicat.api_url): nothing is catalogued")
        return
    described = Described.parse(metadata)
    known = work.ledger.copies.of_scan(scan.id)
    raw = [each for each in known if each.dataset == RAW and each.endpoint == checked.source.name]
    pid = ingest_raw(work, scan, described, raw)
    copied = _returned(known, checked, made)
    if copied is None:
        work.logger.info("the results stay at %s: no record of them is made in the catalogue", checked.site.name)
        return
    ingest_result(work, scan, described, made.result, copied, raw_pid=pid, picture=_picture(work, checked, drawn))


def _returned(known: Sequence[CopyRecord], checked: Checked, made: Made) -> CopyRecord | None:
    """The copy of the result where it returned to."""
    place = "" if checked.results is None else checked.results.name
    present = [each for each in known if (each.endpoint, each.state) == (place, CopyState.PRESENT)]
    path = checked.correlation.result
    return next((each for each in present if each.path == path and each.version == made.version), None)


def _picture(work: Work, checked: Checked, drawn: Made) -> Path | None:
    """Of g2, where the pictures can be read from here."""
    folder = drawn.making.product.base
    for endpoint in filter(None, (checked.results, drawn.making.at(work))):
        if endpoint.mount is not None:
            found = sorted(endpoint.local_path(folder).glob("*_g2_corr_*.png"))
            if found:
                return found[0]
    return None
