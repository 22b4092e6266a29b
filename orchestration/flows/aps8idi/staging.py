"""The inputs of a correlation where the jobs of its site read them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.config import ComputeSite, Endpoint
from orchestration.errors import SourceChanged
from orchestration.flows.aps8idi.products import QMAP, Correlation
from orchestration.flows.calendar import schedule_pruning
from orchestration.flows.copying import Dataset, copy, look, record_source
from orchestration.flows.work import Work
from orchestration.ledger.copy import RAW, CopyRecord
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath


def stage_in(work: Work, scan: Scan, site: ComputeSite, correlation: Correlation, *, source: Endpoint) -> CopyRecord:
    """Carry the measurement and the qmap to the site, and plan that they go again one day; the copy of the former.

    Raises:
        SourceChanged: if somebody wrote to them since they had come to rest.
    """
    destination = work.settings.endpoint(site.raw_endpoint)
    qmap, folder = correlation.qmap, correlation.measurement.folder
    raw = _carried(work, scan, Dataset(name=RAW, path=folder), source, destination, to=folder)
    _demand_unchanged(work, source, folder, correlation.measurement.facts.version)
    part = Dataset(name=f"{QMAP} {qmap.path.name} ({qmap.digest})", path=qmap.path)
    staged = _carried(
        work, scan, part, qmap.endpoint, destination, to=correlation.staged_qmap, version=qmap.facts.version
    )
    _demand_unchanged(work, qmap.endpoint, qmap.path, qmap.facts.version)
    for copies in (raw, staged):
        for present in copies:
            schedule_pruning(work, scan, present)
    return raw[0]


def _carried(
    work: Work,
    scan: Scan,
    part: Dataset,
    source: Endpoint,
    destination: Endpoint,
    *,
    to: RelativePath,
    version: str = "",
) -> Sequence[CopyRecord]:
    """The copy at the site first, then the original."""
    copied = copy(work, scan, [part], source=source, destination=destination, to={part.path: to}, version=version)[0]
    return copied, record_source(work, scan, copied, source=source, path=part.path)


def _demand_unchanged(work: Work, source: Endpoint, path: RelativePath, version: str) -> None:
    facts = look(work, source, path)
    if facts is None or facts.version != version:
        raise SourceChanged(f"{path} was written to while it was carried", where=f"{source.name}:{path}")
