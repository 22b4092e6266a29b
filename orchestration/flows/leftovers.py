"""What jobs made outside their own folders, and of which nothing more is wanted once their operations are long over.

Jobs that compute checksums leave their answers in a folder of the site's scratch; those of an archive leave plans and
lists in its `log_folder`. Nothing else is ever named here: others may use the same disks.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestration.config import ArchiveEndpoint, NerscSite, RemoteSite, state_directory
from orchestration.flows.archiving import awaits_record, plans
from orchestration.flows.checksumming import ANSWERS, LOCAL_ANSWERS
from orchestration.flows.work import Work
from orchestration.ledger.operation import OperationRecord
from orchestration.nersc.errands import Errands

_ANSWER = re.compile(r"[0-9]+-[0-9]+(-[0-9a-f]+)?\.json")


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """By full paths, as jobs of a site call them."""

    folders: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    def __or__(self, other: Leftovers) -> Leftovers:
        return Leftovers(folders=self.folders | other.folders, files=self.files | other.files)

    def __sub__(self, other: Leftovers) -> Leftovers:
        return Leftovers(folders=self.folders - other.folders, files=self.files - other.files)


def over(work: Work, site: RemoteSite, record: OperationRecord) -> bool:
    """Whether all that it left has been read."""
    return not any(awaits_record(work, archive, record) for archive, _ in _archives(work, site, record))


def leftovers(work: Work, site: RemoteSite, records: Sequence[OperationRecord]) -> Leftovers:
    """Of operations at a site, without what others that go on, or are younger, may still want."""
    found, others = Leftovers(), Leftovers()
    for record in records:
        found |= _made(work, site, record)
    if found == Leftovers():
        return found
    mine = {record.key for record in records}
    for record in _others(work, records):
        if record.key not in mine or record.state.open:  # begun again since it was found
            others |= _made(work, site, record) | _stores_by(work, site, record)
    return found - others


def clear_answers(work: Work, *, before: float) -> int:
    """Those on this machine that nobody has asked for since that time; how many."""
    wanted = {path for record in work.ledger.operations.open() for path in _outputs(record)}
    answers = [each for each in (state_directory() / LOCAL_ANSWERS).glob("*.json") if _ANSWER.fullmatch(each.name)]
    return sum(_removed(work, each, before) for each in answers if str(each) not in wanted)


def _others(work: Work, records: Sequence[OperationRecord]) -> Iterator[OperationRecord]:
    """Operations that go on, wherever; and those of the same scans that are not to be cleared yet."""
    yield from work.ledger.operations.open()
    for scan_id in {record.scan_id for record in records}:
        yield from (each for each in work.ledger.operations.of_scan(scan_id) if each.cleared_at is None)


def _made(work: Work, site: RemoteSite, record: OperationRecord) -> Leftovers:
    """By the jobs of one operation, outside their own folders; plans are their survey's."""
    scratch = site.path(work.settings.endpoint(site.scratch_endpoint), ANSWERS)
    made = Leftovers(files=frozenset(path for path in _outputs(record) if _in(scratch, path)))
    for archive, errands in _archives(work, site, record):
        made |= Leftovers(folders=frozenset([str(record.request["directory"])]))
        if record.step.startswith("survey "):
            made |= _planned(archive, errands, record)
    return made


def _stores_by(work: Work, site: RemoteSite, record: OperationRecord) -> Leftovers:
    """The plan that a job is about to read, while its operation goes on."""
    found = Leftovers()
    for archive, errands in _archives(work, site, record) if record.state.open else ():
        found |= _planned(archive, errands, record)
    return found


def _planned(archive: ArchiveEndpoint, errands: Errands, record: OperationRecord) -> Leftovers:
    places = [place for plan in plans(record, archive) if (place := errands.planned(plan)) is not None]
    return Leftovers(
        folders=frozenset(folder for folder, _ in places),
        files=frozenset(file for _, file in places),
    )


def _archives(work: Work, site: RemoteSite, record: OperationRecord) -> Sequence[tuple[ArchiveEndpoint, Errands]]:
    """The archive of whose jobs it is one, if it is; more than one only if these have a folder in common."""
    if not isinstance(site, NerscSite):
        return ()
    mine = [archive for archive in work.settings.archives.values() if archive.site == site.name]
    known = [(archive, Errands(archive=archive, site=site)) for archive in mine]
    return [(archive, errands) for archive, errands in known if errands.owns(str(record.request.get("directory", "")))]


def _outputs(record: OperationRecord) -> Collection[str]:
    outputs = record.request.get("outputs")
    return [str(each["path"]) for each in outputs if isinstance(each, dict)] if isinstance(outputs, list) else ()


def _in(folder: str, path: str) -> bool:
    return posixpath.dirname(path) == folder and _ANSWER.fullmatch(posixpath.basename(path)) is not None


def _removed(work: Work, answer: Path, before: float) -> bool:
    try:
        if answer.stat().st_mtime >= before:
            return False
        answer.unlink()
    except OSError as error:
        work.logger.warning("an old answer stays at %s: %s", answer, error.strerror)
        return False
    return True
