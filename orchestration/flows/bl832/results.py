"""What a reconstruction of 8.3.2 made: where it stands, and its way to where it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.config import ComputeSite, Endpoint
from orchestration.errors import OutputMissing, SourceChanged
from orchestration.flows.bl832.move import BEAMLINE
from orchestration.flows.copying import copy, look, record_source, whole
from orchestration.flows.tomography import Reconstruction, as_written, written
from orchestration.flows.work import Work
from orchestration.ledger.copies import CopyRecord, CopyState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.science.running.outputs import sha256


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of a job: the result in the ledger, and the job's outcome."""

    result: ResultRecord
    outcome: Outcome
    results: Mapping[RelativePath, str]
    """What the job calls each of its results."""

    @property
    def version(self) -> str:
        """Tells the files of this attempt from those of another that had the same names."""
        return f"{self.outcome.record.key[:12]}.{self.outcome.record.attempt}"

    def written(self, path: RelativePath) -> Mapping[str, Any]:
        """What is known of one result since the end of the job."""
        return written(self.outcome, self.results[path])


def stands_somewhere(work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction, made: Made) -> bool:
    """Whether it is there to be carried, at the site or where it was carried to."""
    here = work.settings.endpoint(site.scratch_endpoint)
    return _at_site(work, here, reconstruction, made) or bool(_kept(work, scan, here, reconstruction, made))


def bring_back(
    work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction, made: Made
) -> Sequence[CopyRecord]:
    """The results on the beamline's server and at their second home, and those at the site, now known to be as good.

    Where one of them lost its copies, they come from another.

    Raises:
        SourceChanged: if somebody wrote to them since the job ended.
        OutputMissing: if they are nowhere any more.
    """
    here = work.settings.endpoint(site.scratch_endpoint)
    kept = _kept(work, scan, here, reconstruction, made)
    at_site = _at_site(work, here, reconstruction, made)
    if not at_site and not kept:
        raise _gone(work, made, f"{here.name}:{reconstruction.base}")
    source = here if at_site else work.settings.endpoint(next(iter(kept)))
    found: list[CopyRecord] = []
    for home in _homes(work, here):
        found += kept.get(home.name) or copy(
            work, scan, reconstruction.datasets, source=source, destination=home, version=made.version
        )
    if not at_site:
        _warn_of_others(work, scan, here, reconstruction)
        return found
    same = all(as_written(copied.manifest, made.written(copied.path)) for copied in found)
    if not same or not _at_site(work, here, reconstruction, made):
        work.ledger.operations.expire(made.outcome.record.key)
        raise SourceChanged(
            "somebody else wrote to the folder of these results meanwhile",
            where=f"{here.name}:{reconstruction.base}",
            next_step="find out who, then start this one again: it makes them anew",
        )
    parts = list(zip(found, reconstruction.datasets, strict=False))  # the copies on the server come first
    return found + [
        record_source(work, scan, copied, source=here, path=part.path, role=part.role) for copied, part in parts
    ]


def _homes(work: Work, here: Endpoint) -> list[Endpoint]:
    """Where results of a site are kept: on the beamline's server; at NERSC as well, if they were made there."""
    beamline = work.settings.beamline(BEAMLINE)
    homes = [work.settings.endpoint(beamline.scratch)]
    second = None if beamline.nersc_results is None else work.settings.endpoint(beamline.nersc_results)
    if second is not None and second.uri and second.uri == here.uri:
        homes.append(second)
    return homes


def _kept(
    work: Work, scan: Scan, here: Endpoint, reconstruction: Reconstruction, made: Made
) -> Mapping[str, Sequence[CopyRecord]]:
    """The copies at each home that has all of the results, as they were when they came there; by endpoint."""
    known = {
        (each.endpoint, each.path): each
        for each in work.ledger.copies.of_scan(scan.id)
        if each.version == made.version and each.state is CopyState.PRESENT
    }
    kept: dict[str, Sequence[CopyRecord]] = {}
    for home in _homes(work, here):
        found = [known.get((home.name, part.path)) for part in reconstruction.datasets]
        copies = [each for each in found if each is not None and whole(work, home, each)]
        if len(copies) == len(found):
            kept[home.name] = copies
    return kept


def _warn_of_others(work: Work, scan: Scan, here: Endpoint, reconstruction: Reconstruction) -> None:
    """What is at the site ought to be the results, and is something else. Those that are kept are as they were."""
    present = [
        each.path
        for each in work.ledger.copies.of_scan(scan.id)
        if (each.endpoint, each.state) == (here.name, CopyState.PRESENT)
    ]
    if reconstruction.report in present:
        work.logger.warning("what lies at %s:%s is not what was made there", here.name, reconstruction.base)


def _at_site(work: Work, at: Endpoint, reconstruction: Reconstruction, made: Made) -> bool:
    """Whether the report that stands there is the one that the job wrote, as far as can be told from here."""
    facts, report = look(work, at, reconstruction.report), made.written(reconstruction.report)
    if facts is None or facts.size != report.get("size"):
        return False
    return at.mount is None or sha256(at.local_path(reconstruction.report)) == report.get("sha256")


def _gone(work: Work, made: Made, where: str) -> OutputMissing:
    work.ledger.operations.expire(made.outcome.record.key)
    return OutputMissing(
        "the results were removed, or written over, before they were carried",
        where=where,
        next_step="find out by whom, then start this one again: it makes them anew",
    )
