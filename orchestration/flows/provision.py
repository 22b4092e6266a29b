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
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from orchestration.errors import ConfigError
from orchestration.ledger.service import Document

SILENCE = timedelta(minutes=10)
"""Longer than three heartbeats of any run: a run so long silent has died with its machine."""

ZOMBIES = "Crash runs whose machine died"

_SIGNS_AND_ENDS = {
    f"prefect.flow-run.{name}"
    for name in ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")
}
"""Prefect names these events for the name of a state, and a suspended run is one that is paused under another name."""


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


@dataclass(frozen=True, kw_only=True)
class Queue:
    pool: str
    name: str
    limit: int | None
    """How many of its runs may be busy at once."""


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


def ensure_queue(client: SyncPrefectClient, queue: Queue) -> Change:
    """A queue with a priority of its own: those made first are served first. A limit that exists is not touched."""
    full_name = f"{queue.pool}/{queue.name}"
    try:
        found = client.read_work_queue_by_name(queue.name, work_pool_name=queue.pool)
    except ObjectNotFound:
        client.create_work_queue(queue.name, work_pool_name=queue.pool, concurrency_limit=queue.limit)
        return Change(kind="work queue", name=full_name, effect=Effect.CREATED)
    if found.concurrency_limit == queue.limit:
        return Change(kind="work queue", name=full_name, effect=Effect.UNCHANGED)
    note = f"its limit is {found.concurrency_limit}, not {queue.limit}"
    return Change(kind="work queue", name=full_name, effect=Effect.KEPT, detail=note)


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
    """Without it, a run whose machine lost power is Running for ever, and keeps its slot.

    What an older version made took a suspended run for a dead one: it is told of more ends, and else left as it is.
    """
    wanted = _zombies()
    found = client.read_automations_by_name(ZOMBIES)
    if not found:
        client.create_automation(wanted)
        return Change(kind="automation", name=ZOMBIES, effect=Effect.CREATED)
    known = found[0]
    if not isinstance(known.trigger, EventTrigger) or known.trigger.expect >= _SIGNS_AND_ENDS:
        return Change(kind="automation", name=ZOMBIES, effect=Effect.UNCHANGED)
    trigger = known.trigger.model_copy(update={"expect": known.trigger.expect | _SIGNS_AND_ENDS})
    changed = AutomationCore(
        **{**known.model_dump(exclude={"id", "owner_resource"}), "trigger": trigger, "actions": known.actions}
    )
    client.update_automation(known.id, changed)
    return Change(kind="automation", name=ZOMBIES, effect=Effect.CHANGED)


def _zombies() -> AutomationCore:
    return AutomationCore(
        name=ZOMBIES,
        description=f"A run that has sent no heartbeat for {SILENCE} and did not end is marked as crashed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect=set(_SIGNS_AND_ENDS),
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
