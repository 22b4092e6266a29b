"""Copies that a person brings back from quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestration.config import Settings
from orchestration.errors import InvalidInput, OrchestrationError
from orchestration.flows.calendar import calendar_entry, planned, shared
from orchestration.flows.explaining import bench
from orchestration.flows.quarantining import bringing_back, carry_back, renamer
from orchestration.flows.services import Services
from orchestration.flows.variables import QUICK
from orchestration.flows.work import Work
from orchestration.ledger import Ledger
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer, Document, Json, Request, Service
from orchestration.times import iso


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A copy that is back, and what could not be done about Prefect's calendar."""

    copy: CopyRecord
    notes: tuple[str, ...] = ()

    def document(self) -> Document:
        notes: list[Json] = [*self.notes]
        return {
            "dataset": self.copy.dataset,
            "endpoint": self.copy.endpoint,
            "path": self.copy.path.text,
            "delete_after": iso(self.copy.delete_after),
            "notes": notes,
        }


def restore(
    settings: Settings,
    ledger: Ledger,
    services: Services,
    scan: Scan,
    *,
    who: str,
    endpoint: str | None = None,
    dataset: str | None = None,
) -> Sequence[Restored]:
    """Bring copies of a scan back from quarantine: those at an endpoint, those of a dataset, or all.

    Their deletion is taken out of Prefect's calendar, and one for the time that their rule says from now is put in.
    That can wait: Prefect need not answer for data to come back.

    Raises:
        InvalidInput: if there is none, or one of them cannot come back (another stands in its place, ...): then none
            was touched.
        OperationFailed: (or another error of the endpoint) if one stays where it is. Asked for again, it is carried on.
    """
    work = bench(settings, ledger, services)
    found = [
        copy
        for copy in ledger.copies.of_scan(scan.id)
        if copy.state is not CopyState.DELETED
        and copy.quarantined_at is not None
        and endpoint in {None, copy.endpoint}
        and dataset in {None, copy.dataset}
    ]
    if not found:
        which = " ".join(filter(None, ("of", dataset or "any dataset", f"at {endpoint}" if endpoint else "")))
        raise InvalidInput(
            f"no copy {which} is in quarantine",
            where=scan.path.text,
            next_step="see with `beamline retention explain` what there is of the scan",
        )
    for copy in found:
        _demand_room(work, copy)
    return [_restore(work, scan, copy, who=who) for copy in found]


def _demand_room(work: Work, copy: CopyRecord) -> None:
    if copy.state is not CopyState.QUARANTINED:
        raise InvalidInput(
            "it is being deleted",
            where=f"{copy.endpoint}:{copy.lies_at}",
            next_step="look at it with `beamline retention explain`: what could not be deleted can be brought back",
        )
    if copy.path == copy.quarantine_path:
        raise InvalidInput(
            "its place was taken by a newer copy",
            where=f"{copy.endpoint}:{copy.lies_at}",
            next_step="take what you need from there by hand, or name another copy with --endpoint and --dataset",
        )
    # One that an earlier attempt has begun to bring back may stand there itself: the endpoint knows.
    home = work.settings.endpoint(copy.endpoint)
    if copy.deletion is None and work.services.look(home, copy.path, patience=QUICK) is not None:
        raise InvalidInput(
            f"something else stands at {copy.path} now",
            where=copy.endpoint,
            next_step=f"move it away, or take what you need from {copy.lies_at} by hand",
        )


def _restore(work: Work, scan: Scan, copy: CopyRecord, *, who: str) -> Restored:
    endpoint = work.settings.endpoint(copy.endpoint)
    operation = bringing_back(work, endpoint, copy)
    work.ledger.quarantine.begin_return(copy, operation, service=renamer(work, endpoint).name)

    def directly(asked: Operation[Request], service: Service[Request]) -> Outcome:
        return perform(work.ledger, asked, service)

    carry_back(work, endpoint, operation, copy, perform=directly, who=who)
    back = work.ledger.copies.get(copy.id)
    return Restored(copy=back, notes=(*_withdraw(work, copy), *_plan(work, scan, back)))


def _withdraw(work: Work, copy: CopyRecord) -> Iterator[str]:
    """Take the deletion of what lay in quarantine out of the calendar.

    What stays there will find nothing, as does a run that deletes others as well.
    """
    for record in planned(work, [copy]).get(copy.id, ()):
        if record.state is not OperationState.SUCCEEDED or record.handle is None or shared(record):
            continue
        try:
            answer = work.services.prefect_schedule.cancel(record.handle)
        except OrchestrationError as silence:
            yield f"its old deletion stays in the calendar, and will find nothing: {silence.what}"
        else:
            if answer not in {CancelAnswer.CANCELLED, CancelAnswer.ALREADY_FINISHED}:
                yield f"its old deletion stays in the calendar, and will find nothing: {answer.value}"


def _plan(work: Work, scan: Scan, copy: CopyRecord) -> Iterator[str]:
    if copy.delete_after is None:
        return
    try:
        perform(work.ledger, calendar_entry(work, scan, copy, within=QUICK), work.services.prefect_schedule)
    except OrchestrationError as silence:
        yield f"its deletion is not in the calendar; `reconcile` plans it when it is due: {silence.what}"
