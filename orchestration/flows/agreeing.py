"""Runs of which Prefect and the ledger tell otherwise, since their process died between the two words."""

from __future__ import annotations

from collections.abc import Iterator

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from orchestration.flows import catalogue
from orchestration.flows.server import prefect_server
from orchestration.flows.standing import ended, over, young
from orchestration.flows.work import Work
from orchestration.ledger.service import Json

_PAGE = 200


def hear_unheard(work: Work) -> None:
    """Write runs down as dead that began in Prefect and never came to the ledger: they are settled like all others.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    ours = _ours()
    with prefect_server() as client:
        for known in list(_in(client, StateType.PENDING, StateType.RUNNING)):
            if known.state is None or young(known.state) or work.ledger.runs.get(str(known.id)) is not None:
                continue
            flow, began = client.read_flow(known.flow_id).name, known.state.timestamp.timestamp()
            if flow in ours and work.ledger.runs.unheard(
                run_id=str(known.id), flow=flow, parameters=known.parameters, started_at=began
            ):
                work.logger.warning("%s %s began, and nothing was heard of it since", flow, known.id)


def tell_ends(work: Work) -> list[Json]:
    """Tell Prefect how runs ended that it has as running; their ids.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    told: list[Json] = []
    with prefect_server() as client:
        for known in list(_in(client, StateType.RUNNING)):
            record = work.ledger.runs.get(str(known.id))
            if record is None or known.state is None or not over(record, known.state, work.ledger.now()):
                continue
            client.set_flow_run_state(known.id, ended(record), force=True)
            work.logger.warning("%s %s is %s, and Prefect is told so now", record.flow, record.id, record.state)
            told.append(record.id)
    return told


def _ours() -> frozenset[str]:
    """The names of all flows that are deployed from here: others may use the same server."""
    return frozenset(
        spec.flow_name for name in catalogue.beamlines() for spec in catalogue.of_beamline(name).deployments
    )


def _in(client: SyncPrefectClient, *states: StateType) -> Iterator[FlowRun]:
    among = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*states])))
    offset = 0
    while True:
        page = client.read_flow_runs(flow_run_filter=among, sort=FlowRunSort.START_TIME_ASC, limit=_PAGE, offset=offset)
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE
