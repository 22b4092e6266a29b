"""Archiving what a proposal wrote: what is new of it goes to tape, and the ledger learns what is where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from orchestration.config import ArchiveEndpoint, NerscSite
from orchestration.errors import (
    BatchIncomplete,
    ConfigError,
    InvalidInput,
    NameTaken,
    OperationFailed,
    PolicyRefused,
)
from orchestration.flows.archived import object_at, record_datasets, record_object
from orchestration.flows.computing import asked_at, compute
from orchestration.flows.jobs import CHECK_SECONDS, remote_job
from orchestration.flows.locating import add_places
from orchestration.flows.results import content, written
from orchestration.flows.server import insist
from orchestration.flows.work import Work
from orchestration.hpss.bundles import Cycle
from orchestration.hpss.manifest import Manifest
from orchestration.jobs import JobSpec
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.nersc.archive import HpssArchive
from orchestration.nersc.errands import LIST, OUTCOME, Errand
from orchestration.paths import RelativePath

DAY = 24 * 3600.0

WAIT_SECONDS = 14 * 24 * 3600.0
"""For a place among the sessions of the archive, on top of the time in the queue and of the job itself."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """What one proposal wrote, or one file of it, as the ledger knows it; and the archive that takes it."""

    scan: Scan
    """Under which jobs are filed: the folder of the proposal, or the file."""
    name: str
    """What was asked for, below the folder of proposals."""
    archive: ArchiveEndpoint
    site: NerscSite


def project(work: Work, beamline: str, path: RelativePath, *, archive: str, folder: bool = False) -> Project:
    """With `folder`, jobs are filed under the folder of the proposal, whatever in it is asked for.

    Raises:
        InvalidInput: if it is not below the folder of which the archive is one.
    """
    into = work.settings.archive(archive)
    site, name = work.settings.site(into.site), into.project(path)
    if not isinstance(site, NerscSite):
        raise ConfigError(f"{into.site} has no hsi and htar", where=f"archives.{archive}.site")
    filed = into.at_source(name.partition("/")[0]) if folder else path
    scan = work.ledger.scans.register(beamline=beamline, path=filed)
    return Project(scan=scan, name=name, archive=into, site=site)


def archive_project(work: Work, asked: Project, *, cycle: Cycle | None = None) -> Document:
    """Store what of it the archive has not, each bundle once, and write down where every member is.

    Raises:
        BatchIncomplete: naming files that cannot be archived; all others are.
        JobFailed: if a bundle could not be stored, or was not read back as it was. The others were.
    """
    adopt(work, asked)
    stored: dict[str, None] = {}
    copies = 0
    while True:
        survey = _survey(work, asked, cycle)
        found = survey.found
        calls = [partial(_store, work, asked, survey, each) for each in found["objects"]]
        done = work.side_by_side(calls) if calls else []
        stored |= {each.object: None for each in done if not each.overtaken}
        copies += sum(len(each.copies) for each in done)
        for rival in (each.rival for each in done if each.rival is not None):
            see_to_its_end(work, asked, rival)
        if not any(each.overtaken for each in done):
            break
    for name, why in found["refused"]:
        work.logger.warning("%s is not archived: %s", name, why)
    if found["others_count"]:
        work.logger.warning(
            "%d links and special files are not archived: %s", found["others_count"], found["others"][:3]
        )
    if found["refused_count"]:
        first, why = found["refused"][0]
        raise BatchIncomplete(
            f"{found['refused_count']} files cannot be archived, {first} among them: {why}",
            where=f"{asked.archive.source}:{asked.scan.path}",
            next_step="the log names them; rename them, then start the flow again: all others are archived",
        )
    return {"project": asked.name, "stored": [*stored], "known": found["known"], "copies": copies}


def adopt(work: Work, asked: Project) -> None:
    """Write down what an earlier run has stored, if it died before it did."""
    for outcome in _stored(work, asked):
        _record(work, asked, outcome)


def operation(work: Work, asked: Project, errand: Errand, *, step: str) -> Operation[JobSpec]:
    """A job of the archive, as the ledger files it."""
    site = asked.site
    spec = remote_job(
        site,
        duration=min(errand.seconds, site.walltime.seconds(0)),
        arguments=errand.arguments,
        directory=errand.directory,
        outputs=errand.outputs,
        name=f"{errand.name} {asked.scan.path.name}",
    )
    return _filed(asked, spec, step)


def _filed(asked: Project, spec: JobSpec, step: str) -> Operation[JobSpec]:
    deadline = spec.duration + asked.site.start_within_seconds + CHECK_SECONDS + WAIT_SECONDS
    return Operation(
        scan=asked.scan, step=step, request=spec, destination=asked.archive.endpoint.place, deadline=deadline
    )


def hpss(work: Work, asked: Project) -> HpssArchive:
    return work.services.archive(asked.archive.name)


def source_folder(work: Work, asked: Project) -> str:
    """The folder of proposals, as jobs call it."""
    source, folder = work.settings.endpoint(asked.archive.source), asked.archive.source_folder
    return asked.site.path(source, RelativePath(folder)) if folder else asked.site.below_root(source.root_path)


@dataclass(frozen=True, kw_only=True)
class _Survey:
    found: dict[str, Any]
    began_at: float
    """What was in the archive by then (seconds since the epoch), it has seen."""


def _survey(work: Work, asked: Project, cycle: Cycle | None) -> _Survey:
    """What was planned and is not all stored is carried on with; otherwise it is looked anew what there is."""
    number, known, ended_at = _latest(work, asked, cycle)
    if known is not None and _carries_on(work, asked, known, fresh=ended_at > _planned_since(work, asked)):
        return known
    number += 0 if known is None else 1
    errand = _survey_errand(work, asked, number, cycle)
    outcome = compute(work, operation(work, asked, errand, step=f"{_survey_step(asked, cycle)}{number}"), asked.site)
    return _Survey(found={**content(outcome, errand.outcome)}, began_at=asked_at(work, outcome))


def _planned_since(work: Work, asked: Project) -> float:
    """Plans that are older may have been removed, or will be while jobs store by them."""
    days = asked.site.job_folder_days
    return work.ledger.now() - (days - 1.0) * DAY if days else 0.0


def _latest(work: Work, asked: Project, cycle: Cycle | None) -> tuple[int, _Survey | None, float]:
    """The number of the last survey, what it found, and when; nothing while it has not ended well."""
    begins = _survey_step(asked, cycle)
    numbers = {
        int(record.step.removeprefix(begins)): record
        for record in work.ledger.operations.of_scan(asked.scan.id)
        if record.step.startswith(begins)
    }
    if not numbers:
        return 1, None, 0.0
    number = max(numbers)
    record = numbers[number]
    if record.state is not OperationState.SUCCEEDED:
        return number, None, 0.0
    outcome = _outcome(record)
    found = content(outcome, f"{record.request['directory']}/{OUTCOME}")
    return number, _Survey(found={**found}, began_at=asked_at(work, outcome)), record.finished_at or 0.0


def _carries_on(work: Work, asked: Project, survey: _Survey, *, fresh: bool) -> bool:
    """Whether something of it goes on; or was never asked for while it is `fresh`, and nothing has failed for good, nor
    was another run the first to store under one of its names.
    """
    operations = [_storing(work, asked, survey, each) for each in survey.found["objects"]]
    known = {record.key: record.state for record in work.ledger.operations.among([each.key for each in operations])}
    states = [known.get(each.key) for each in operations]
    if any(state is not None and state.open for state in states):
        return True
    whole = fresh and None in states and all(state in (None, OperationState.SUCCEEDED) for state in states)
    return whole and not any(_rival(work, asked, each) for each in operations)


def _survey_step(asked: Project, cycle: Cycle | None) -> str:
    """Without its number."""
    return f"survey for {asked.archive.name}{'' if cycle is None else f', cycle {cycle}'}, number "


def _survey_errand(work: Work, asked: Project, number: int, cycle: Cycle | None) -> Errand:
    return hpss(work, asked).errands.survey(source_folder(work, asked), asked.name, number=number, cycle=cycle)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What came of one object of a survey: its copies, or that another was the first to store under its name."""

    object: str
    copies: tuple[CopyRecord, ...] = ()
    overtaken: bool = False
    rival: OperationRecord | None = None
    """By what, unless that has ended badly since."""


def _storing(work: Work, asked: Project, survey: _Survey, planned: dict[str, Any]) -> Operation[JobSpec]:
    """Several surveys may have planned an object of that name; the ledger lets one of them store it."""
    errand = hpss(work, asked).errands.store(str(planned["plan"]))
    job = operation(work, asked, errand, step=f"store {planned['object']} at {asked.archive.name}")
    return replace(job, sole_since=survey.began_at)


def _rival(work: Work, asked: Project, job: Operation[JobSpec]) -> OperationRecord | None:
    return work.ledger.operations.rival(job, service=work.services.jobs(asked.site).name)


def _store(work: Work, asked: Project, survey: _Survey, planned: dict[str, Any]) -> _Stored:
    job, name = _storing(work, asked, survey, planned), str(planned["object"])
    rival = _rival(work, asked, job)
    if rival is None:
        try:
            return _Stored(object=name, copies=tuple(_once(work, asked, job, name)))
        except NameTaken:
            rival = _rival(work, asked, job)
    return _Stored(object=name, overtaken=True, rival=rival)


def _once(work: Work, asked: Project, job: Operation[JobSpec], name: str) -> Sequence[CopyRecord]:
    """Stored before, and removed from the archive by somebody, it is stored again."""
    known = object_at(work, asked.archive, name)
    if known is not None and known.state is CopyState.DELETING:
        raise OperationFailed(
            f"{name} is being removed from the archive",
            where=f"{asked.archive.source}:{asked.scan.path}",
            next_step="start the flow again when that has ended",
        )
    outcome = compute(work, job, asked.site)
    if outcome.already_done and work.services.look(asked.archive.endpoint, RelativePath(name)) is None:
        work.logger.warning("%s was done, but it is not there any more: done again", job.step)
        work.ledger.operations.expire(job.key)
        outcome = compute(work, job, asked.site)
    if outcome.already_done and not awaits_record(work, asked.archive, outcome.record):
        there = work.ledger.copies.below(asked.archive.name, name)
        return [copy for copy in there if copy.verified_by == job.key]
    return _record(work, asked, outcome)


def see_to_its_end(work: Work, asked: Project, rival: OperationRecord) -> None:
    """What another run has begun under a name that this one had planned as well; it may have died since.

    How it ended is told by the next survey.
    """
    work.logger.info("another run was the first with %s; what is left is planned anew", rival.step)
    theirs = replace(asked, scan=work.ledger.scans.get(rival.scan_id))
    try:
        outcome = compute(work, _as_filed(work, theirs, rival), asked.site, redo=False)
    except (OperationFailed, InvalidInput, PolicyRefused, NameTaken) as error:
        work.ledger.runs.demand_wanted(work.run_id)
        if any(each.state.open for each in work.ledger.operations.among([rival.key])):
            raise
        work.logger.warning("%s had failed: %s", rival.step, error.what)
        return
    if awaits_record(work, asked.archive, outcome.record):
        _record(work, theirs, outcome)


def _as_filed(work: Work, asked: Project, record: OperationRecord) -> Operation[JobSpec]:
    """A job of another run, asked for again so that it is that very job, whatever was learnt of its scan since."""
    spec = work.services.request_of(record)
    if isinstance(spec, JobSpec):
        for scan in (asked.scan, replace(asked.scan, fingerprint="")):
            job = replace(_filed(replace(asked, scan=scan), spec, record.step), sole_since=work.ledger.now())
            if job.key == record.key:
                return job
    raise OperationFailed(
        f"another run goes on with {record.step}, and cannot be carried on by this one",
        where=f"{asked.archive.source}:{asked.scan.path}",
        next_step="wait until that has ended, then start the flow again",
    )


def _stored(work: Work, asked: Project) -> Sequence[Outcome]:
    """What was stored of it, as far as it is not written down."""
    return [
        _outcome(each)
        for each in work.ledger.operations.of_scan(asked.scan.id)
        if awaits_record(work, asked.archive, each)
    ]


def awaits_record(work: Work, archive: ArchiveEndpoint, record: OperationRecord) -> bool:
    """Whether it has stored something that is not written down: the list that its job left is still to be read."""
    matched = re.fullmatch(rf"store (?P<object>.*) at {re.escape(archive.name)}", record.step)
    if matched is None or record.state is not OperationState.SUCCEEDED:
        return False
    known = work.ledger.copies.at(archive.name, RelativePath(matched["object"]))
    return not any(copy.verified_by == record.key for copy in known)


def plans(record: OperationRecord, archive: ArchiveEndpoint) -> Sequence[str]:
    """The digests of the plans that a survey for that archive has left, or by which a job stores."""
    stores_by = [str(word).removeprefix("--plan=") for word in _words(record) if str(word).startswith("--plan=")]
    found = written(_outcome(record), f"{record.request['directory']}/{OUTCOME}").get("content")
    objects = found.get("objects") if isinstance(found, dict) else None
    if stores_by or not record.step.startswith(f"survey for {archive.name}") or not isinstance(objects, list):
        return stores_by
    return [str(each["plan"]) for each in objects]


def _words(record: OperationRecord) -> Sequence[object]:
    words = record.request.get("arguments")
    return words if isinstance(words, list) else ()


def _outcome(record: OperationRecord) -> Outcome:
    return Outcome(record=record, evidence=record.evidence or {}, already_done=True)


def _record(work: Work, asked: Project, outcome: Outcome) -> Sequence[CopyRecord]:
    """The object last: who finds it finds all that is to be written down, and told to the catalogue."""
    manifest = list_of(work, asked, outcome)
    datasets = record_datasets(work, asked.archive, manifest, outcome)
    add_places(work, datasets)
    return [*datasets, record_object(work, asked.scan, asked.archive, manifest, outcome)]


def list_of(work: Work, asked: Project, outcome: Outcome) -> Manifest:
    """What a job has stored."""
    path = f"{outcome.record.request['directory']}/{LIST}"
    archive, digest = hpss(work, asked), str(written(outcome, path).get("sha256"))
    return insist(lambda: archive.listed(path, sha256=digest), seconds=work.settings.transfer.min_seconds)
