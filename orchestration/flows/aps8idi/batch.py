"""XPCS of a whole experiment: many datasets to a job, several jobs at once, and what became of each by its name."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from prefect import flow

from orchestration.config import ComputeSite
from orchestration.config.xpcs import XpcsDeployment
from orchestration.errors import BatchIncomplete, Cancelled, InvalidInput, OrchestrationError
from orchestration.flows.aps8idi.announcing import Announcement, announcing, withheld
from orchestration.flows.aps8idi.checking import Checked, check
from orchestration.flows.aps8idi.manifest import begin, datasets_of, groups_of, round_of
from orchestration.flows.aps8idi.many import Share, covers, job_of
from orchestration.flows.aps8idi.options import Options
from orchestration.flows.aps8idi.outlook import outlooks
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.aps8idi.pipeline import expect, finish, found, known, standing
from orchestration.flows.aps8idi.staging import stage_in
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.computing import compute
from orchestration.flows.jobs import operation_at
from orchestration.flows.main import command
from orchestration.flows.work import Work, register, working
from orchestration.jobs import JobSpec
from orchestration.ledger.batches import BatchItem, BatchRecord, ItemState
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

FLOW = "xpcs_batch_flow"

MOST_PER_JOB = 100
"""What a job is to do is one argument of its program, and Linux takes none over 128 KiB."""


@flow(name=FLOW, flow_run_name="xpcs_batch: {folder}{batch}", on_failure=[say_cancelled])
def xpcs_batch_flow(
    folder: str = "",
    qmap: str = "",
    experiment: str = "",
    cycle: str = "",
    deployment: str = "",
    options: Options = Options(),  # noqa: B008 - frozen
    datasets: list[str] | None = None,
    batch: str = "",
    run_batch_size: int = 20,
    active_runs_limit: int = 20,
    max_blocks: int = 5,
    request: str = "",
    is_export_control: bool = False,
    dry_run: bool = False,
) -> Document:
    """Correlate every dataset of an experiment: each folder in `folder` is one, or those named in `datasets`.

    With `batch`, the failed datasets of that batch are tried again with what they were tried with, and everything else
    that is given here is left aside. `run_batch_size` datasets are one job, `max_blocks` jobs are there at once, and
    `active_runs_limit` datasets are looked at or carried at once. The run fails if a dataset has no result in the end;
    `beamline batches` says which, and why.
    """
    given: Document = {
        "folder": folder,
        "qmap": qmap,
        "experiment": experiment,
        "cycle": cycle,
        "deployment": deployment,
        "options": options.chosen,
        "datasets": list(datasets or []),
        "batch": batch,
        "run_batch_size": run_batch_size,
        "active_runs_limit": active_runs_limit,
        "max_blocks": max_blocks,
        "request": request,
        "is_export_control": is_export_control,
        "dry_run": dry_run,
    }
    with working(FLOW, given) as work:
        if dry_run:
            return _outlook(work, given, datasets or [], options)
        record = _again(work, batch) if batch else _begun(work, given, datasets or [], options)
        limits = Limits(datasets_per_job=run_batch_size, datasets=active_runs_limit, jobs=max_blocks)
        return Batch(work=work, record=record, limits=limits).process()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is there at once."""

    datasets_per_job: int
    datasets: int
    jobs: int

    def __post_init__(self) -> None:
        if min(self.datasets_per_job, self.datasets, self.jobs) < 1:
            raise InvalidInput("the limits of a batch must be 1 or more", where="batch")
        if self.datasets_per_job > MOST_PER_JOB:
            raise InvalidInput(
                f"run_batch_size is {self.datasets_per_job}: a job is told of at most {MOST_PER_JOB} datasets",
                where="batch",
            )


@dataclass(frozen=True, kw_only=True)
class Member:
    """A dataset that is staged at the site."""

    item: BatchItem
    scan: Scan
    checked: Checked
    announcement: Announcement | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch that is worked at. A run that comes after one that died divides it as that did, and goes on."""

    work: Work
    record: BatchRecord
    limits: Limits

    @cached_property
    def deployment(self) -> XpcsDeployment:
        return self.work.settings.xpcs.deployment(self._text("deployment"))

    @cached_property
    def options(self) -> Options:
        chosen = self.record.parameters["options"]
        return Options.parse(chosen if isinstance(chosen, dict) else {})

    @cached_property
    def site(self) -> ComputeSite:
        return self.work.settings.site(self.deployment.site)

    @cached_property
    def scan(self) -> Scan:
        """The experiment, to which the jobs of its datasets belong."""
        return register(
            self.work,
            self._text("folder"),
            beamline=self.work.settings.beamline(self.deployment.beamline),
            is_export_control=bool(self.record.parameters.get("is_export_control")),
        )

    @cached_property
    def _turns(self) -> threading.Semaphore:
        return threading.Semaphore(self.limits.datasets)

    @cached_property
    def _lanes(self) -> threading.Semaphore:
        return threading.Semaphore(self.limits.jobs)

    def process(self) -> Document:
        """Try every dataset of this round.

        Raises:
            BatchIncomplete: if some have no result.
        """
        number, items = round_of(self.work.ledger.batches.items(self.record.id))
        groups = groups_of(items, self.limits.datasets_per_job)
        self.work.logger.info(
            "batch %s: %d datasets in %d jobs, round %d", self.record.id, len(items), len(groups), number
        )
        _ = self.scan  # before threads ask for it
        self.work.side_by_side(
            [partial(self._group, group, f"round {number}, job {place}") for place, group in enumerate(groups, start=1)]
        )
        return self._ended()

    def payload(self, item: BatchItem) -> Payload:
        named = {**self.record.parameters, "raw": item.parameters["folder"]}
        return Payload.parse(self.work.settings, named, self.options)

    def _ended(self) -> Document:
        items = self.work.ledger.batches.items(self.record.id)
        failed = [item for item in items if item.state is ItemState.FAILED]
        done = sum(item.state is ItemState.DONE for item in items)
        if failed:
            first = failed[0]
            raise BatchIncomplete(
                f"{len(failed)} of {len(items)} datasets have no result; the first, {first.name}: "
                f"{first.error.what if first.error else 'no reason is known'}",
                where=f"batch {self.record.id}",
                next_step=f"see `beamline batches {self.record.id} --failed`, then start the flow again with "
                f"batch={self.record.id}: it tries only those",
            )
        return {"batch": self.record.id, "datasets": len(items), "done": done}

    def _group(self, items: Sequence[BatchItem], place: str) -> None:
        """Bring the datasets to the site, run their job, and see to what it made of each."""
        with self._lanes:
            left = self._left(items)
            staged = self.work.side_by_side([partial(self._staged, item) for item in left])
            members = [each for each in staged if each is not None]
            if not members:
                return
            try:
                operation = self._operation(members, place)
                outcome = compute(self.work, operation, self.site)
            except Cancelled:
                raise
            except OrchestrationError as error:
                for member in members:
                    self._fail(member, error)
                return
            self.work.side_by_side([partial(self._finished, member, operation, outcome) for member in members])

    def _left(self, items: Sequence[BatchItem]) -> Sequence[BatchItem]:
        """Those that are not through: asked when it matters, as a run that had waited comes here again."""
        names = {item.name for item in items}
        now = [item for item in self.work.ledger.batches.items(self.record.id) if item.name in names]
        return [item for item in now if item.state in {ItemState.WAITING, ItemState.RUNNING}]

    def _staged(self, item: BatchItem) -> Member | None:
        """None if it needs no job: it is done, or that failed, and the ledger, and the index, say why."""
        with self._turns:
            try:
                return self._member(item)
            except Cancelled:
                raise
            except OrchestrationError as error:
                self.work.ledger.batches.fail(self.record.id, item.name, error)
                return None

    def _member(self, item: BatchItem) -> Member | None:
        """None if its result stands: there is nothing left to compute."""
        payload = self.payload(item)
        scan = known(self.work, payload, carried=False)
        payload = withheld(self.work, scan, payload.flagged(scan))
        self.work.ledger.batches.take(self.record.id, item.name, scan_id=scan.id)
        with announcing(self.work, scan, payload) as announcement:
            checked = check(self.work, payload)
            scan = found(self.work, checked, announcement, carried=False)
            there = standing(self.work, scan, checked)
            if there is not None:
                made, draw = there
                evidence = finish(self.work, scan, checked, made, announcement, draw=draw)
                self.work.ledger.batches.done(self.record.id, item.name, evidence=evidence)
                return None
            if item.state is ItemState.WAITING:  # else a run before this one may have come further than that
                expect(checked, announcement)
            stage_in(self.work, scan, self.site, checked.correlation, source=checked.source)
            return Member(item=item, scan=scan, checked=checked, announcement=announcement)

    def _operation(self, members: Sequence[Member], place: str) -> Operation[JobSpec]:
        """Of the job. One that was given to the site before a crash is taken up as it was: also if it has done its
        work, and some of its datasets are through.
        """
        step = f"correlate at {self.site.name} (batch {self.record.id[:8]}, {place})"
        wanted = job_of(self.work.settings, self.site, {each.item.name: each.checked for each in members})
        given = [each for each in self.work.ledger.operations.of_scan(self.scan.id) if each.step == step]
        going = [each for each in given if each.state.open or each.state is OperationState.SUCCEEDED]
        covering = [spec for spec in (JobSpec.parse(each.request) for each in going) if covers(spec, wanted)]
        spec = covering[-1] if covering else wanted
        return operation_at(self.work.settings, self.scan, self.site, spec, step=step)

    def _finished(self, member: Member, operation: Operation[JobSpec], outcome: Outcome) -> None:
        with self._turns:
            try:
                share = Share.of(self.work.settings, member.checked, member.scan, operation, outcome)
                evidence = finish(
                    self.work,
                    member.scan,
                    member.checked,
                    share.correlation(self.work),
                    member.announcement,
                    draw=partial(share.pictures, self.work),
                )
            except Cancelled:
                raise
            except OrchestrationError as error:
                self._fail(member, error)
            else:
                self.work.ledger.batches.done(self.record.id, member.item.name, evidence=evidence)

    def _fail(self, member: Member, error: OrchestrationError) -> None:
        if member.announcement is not None:
            member.announcement.failed(error)
        self.work.ledger.batches.fail(self.record.id, member.item.name, error)

    def _text(self, name: str) -> str:
        return str(self.record.parameters.get(name) or "")


def _asked(deployment: XpcsDeployment, given: Document, options: Options) -> Document:
    """What is asked of every dataset, in one spelling.

    Raises:
        InvalidInput: if that is not enough to begin with.
    """
    if not given["folder"] or not given["qmap"]:
        raise InvalidInput(
            "a batch needs the folder of an experiment and a qmap", where="batch", next_step="give both, or a batch"
        )
    return {
        **{name: given[name] for name in ("experiment", "cycle", "request", "is_export_control")},
        "deployment": deployment.name,
        "folder": deployment.to_relative(str(given["folder"])).text,
        "qmap": deployment.qmap_to_relative(str(given["qmap"])).text,
        "options": options.chosen,
    }


def _begun(work: Work, given: Document, datasets: Sequence[str], options: Options) -> BatchRecord:
    """The batch that was asked for: one of the same that is not through, or what is not done of it."""
    deployment = work.settings.xpcs.deployment(str(given["deployment"]))
    return begin(work, FLOW, deployment, _asked(deployment, given, options), datasets)


def _outlook(work: Work, given: Document, datasets: Sequence[str], options: Options) -> Document:
    """What would be done with each dataset, or why it cannot be."""
    deployment = work.settings.xpcs.deployment(str(given["deployment"]))
    asked = _asked(deployment, given, options)
    found = datasets_of(work, deployment, RelativePath(str(asked["folder"])), datasets)
    payloads = {
        name: Payload.parse(work.settings, {**asked, "raw": inputs["folder"]}, options)
        for name, inputs in found.items()
    }
    return outlooks(work, payloads, at_once=int(str(given["active_runs_limit"])))


def _again(work: Work, batch: str) -> BatchRecord:
    """A batch of which the failed datasets are to be tried again; if a run of it died, that is gone on with first."""
    ledger = work.ledger.batches
    record = ledger.get(batch)
    counts = ledger.counts(record.id)
    if not counts[ItemState.WAITING] and not counts[ItemState.RUNNING]:
        names = ledger.retry(record.id)
        work.logger.info("batch %s: %d failed datasets are tried again", record.id, len(names))
    return ledger.begin(
        id=record.id,
        flow=record.flow,
        beamline=record.beamline,
        name=record.name,
        parameters=record.parameters,
        run_id=work.run_id,
        items={},
    )


def main(argv: list[str] | None = None) -> Any:
    return command(xpcs_batch_flow, argv)


if __name__ == "__main__":
    main()
