"""Brings a Prefect server to what the catalogue says, one step at a time, and says what each step changed.

Nothing is ever deleted (with a deployment Prefect deletes the runs that are scheduled for it) and nothing that an
operator set by hand (a variable, a pause, a limit of a pool) is set back.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, WorkPoolCreate
from prefect.client.schemas.filters import WorkQueueFilter, WorkQueueFilterName
from prefect.client.schemas.objects import StateType, WorkQueue
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from orchestration.errors import ConfigError
from orchestration.flows.catalogue import Catalogue
from orchestration.ledger.service import Document

SILENCE = timedelta(minutes=10)
"""Longer than three heartbeats of any run: a run so long silent has died with its machine."""

ZOMBIES = "Crash runs whose machine died"


class Effect(enum.StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """Differs from what would be made, and was left as it is."""


@dataclass(frozen=True, kw_only=True)
class Change:
    kind: str
    name: str
    effect: Effect
    detail: str = ""

    def __str__(self) -> str:
        note = f" ({self.detail})" if self.detail else ""
        return f"{self.effect:<9} {self.kind} {self.name}{note}"


def ensure_pool(client: SyncPrefectClient, name: str) -> Change:
    """A work pool of processes.

    Raises:
        ConfigError: if there is one of that name and of another type.
    """
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
        except ObjectAlreadyExists:
            return Change(kind="work pool", name=name, effect=Effect.UNCHANGED)  # made by another just now
        return Change(kind="work pool", name=name, effect=Effect.CREATED)
    if found.type != ProcessWorker.type:
        raise ConfigError(
            f"the work pool {name} is of type {found.type}, not {ProcessWorker.type}",
            where="Prefect",
            next_step="rename it in Prefect, then run this again",
        )
    return Change(kind="work pool", name=name, effect=Effect.UNCHANGED)


def ensure_queues(client: SyncPrefectClient, catalogue: Catalogue) -> list[Change]:
    """The queues of all pools, in the order of the file, with priorities of their own."""
    changes = []
    for pool, names in catalogue.pools.items():
        only = WorkQueueFilter(name=WorkQueueFilterName(any_=list(names)))
        known = {queue.name: queue for queue in _queues(client, pool, only)}
        for name in names:
            limit = catalogue.definitions.queue_limits.get(name)
            found = known.get(name)
            if found is None:
                client.create_work_queue(name, work_pool_name=pool, concurrency_limit=limit)
                effect = Effect.CREATED
            else:
                effect = Effect.UNCHANGED if found.concurrency_limit == limit else Effect.KEPT
            kept = f"its limit is {found.concurrency_limit}, not {limit}" if found and effect is Effect.KEPT else ""
            changes.append(Change(kind="work queue", name=f"{pool}/{name}", effect=effect, detail=kept))
    return changes


def _queues(client: SyncPrefectClient, pool: str, only: WorkQueueFilter) -> list[WorkQueue]:
    # Some servers refuse the `null` that the client sends for a limit or an offset that is left out.
    return client.read_work_queues(work_pool_name=pool, work_queue_filter=only, limit=200, offset=0)


def ensure_variable(client: SyncPrefectClient, name: str, value: Document) -> Change:
    """A variable with its default. One that exists is the operators' and stays as it is."""
    found = client.read_variable_by_name(name)
    if found is None:
        client.create_variable(VariableCreate(name=name, value=value))
        return Change(kind="variable", name=name, effect=Effect.CREATED)
    if found.value == value:
        return Change(kind="variable", name=name, effect=Effect.UNCHANGED)
    return Change(kind="variable", name=name, effect=Effect.KEPT, detail="set by an operator")


def ensure_automation(client: SyncPrefectClient) -> Change:
    """Without it, a run whose machine lost power is Running for ever, and keeps its slot."""
    if client.read_automations_by_name(ZOMBIES):
        return Change(kind="automation", name=ZOMBIES, effect=Effect.UNCHANGED)
    client.create_automation(_zombies())
    return Change(kind="automation", name=ZOMBIES, effect=Effect.CREATED)


def _zombies() -> AutomationCore:
    ends = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed", "Paused")}
    return AutomationCore(
        name=ZOMBIES,
        description=f"A run that has sent no heartbeat for {SILENCE} and did not end is marked as crashed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message=f"no sign of life for {SILENCE}: the machine or its worker died. Start the flow again.",
            )
        ],
    )
