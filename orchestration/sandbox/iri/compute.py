"""The compute router: submit, update, status of one and of many, cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from orchestration.ledger.service import Document
from orchestration.sandbox.iri.calls import Call, Operation, Query, Text
from orchestration.sandbox.iri.idempotency import Keys
from orchestration.sandbox.iri.inventory import serving
from orchestration.sandbox.iri.jobs import LIVE, Jobs, Kept, Standing, Unseen
from orchestration.sandbox.iri.jobspec import JobSpec
from orchestration.sandbox.iri.knobs import Knobs
from orchestration.sandbox.iri.problems import Problem, not_found
from orchestration.sandbox.iri.status import Nothing, Status


class OneQuery(Query):
    historical: bool | None = True
    include_spec: bool | None = False


class ManyQuery(Query):
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=0, le=1000)] = 100
    historical: bool | None = False
    include_spec: bool | None = False


class Filters(BaseModel):
    """The API leaves conditions to each facility; these are the words of ALCF's, and a name."""

    model_config = ConfigDict(extra="forbid")

    states: list[str] | None = None
    jobIds: list[str] | None = None  # noqa: N815 -- as the facility spells it
    name: Text | None = None
    owner: Text | None = None
    queue: Text | None = None
    accountingId: Text | None = None  # noqa: N815 -- as above

    def hold(self, kept: Kept, standing: Standing) -> bool:
        queue = kept.spec.attributes.queue_name if kept.spec.attributes else None
        return (
            (self.states is None or standing.state in self.states)
            and (self.jobIds is None or kept.id in self.jobIds)
            and (self.name is None or kept.name == self.name)
            and (self.owner is None or kept.user == self.owner)
            and (self.queue is None or queue == self.queue)
            and (self.accountingId is None or kept.account == self.accountingId)
        )


class Compute:
    def __init__(self, jobs: Jobs, status: Status, keys: Keys, knobs: Knobs, *, accounts: tuple[str, ...]) -> None:
        self._jobs = jobs
        self._status = status
        self._keys = keys
        self._knobs = knobs
        self._accounts = accounts
        self._unseen = Unseen()

    def operations(self) -> list[Operation]:
        job, one, many = (
            "/compute/job/{resource_id}",
            "/compute/status/{resource_id}/{job_id}",
            "/compute/status/{resource_id}",
        )
        return [
            Operation(
                name="getComputeResources", method="GET", path="/compute/resources", handler=self.resources, public=True
            ),
            Operation(name="launchJob", method="POST", path=job, handler=self.submit),
            Operation(name="updateJob", method="PUT", path=f"{job}/{{job_id}}", handler=self.update),
            Operation(name="getJob", method="GET", path=one, handler=self.job),
            Operation(name="getJobs", method="POST", path=many, handler=self.jobs),
            Operation(name="cancelJob", method="DELETE", path=one.replace("status", "cancel"), handler=self.cancel),
        ]

    def resources(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse([self._status.view(each, call.version, call.base) for each in serving("compute")])

    def submit(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        spec = call.body(JobSpec)
        resource = self._status.working(call, "compute")
        account = self._account(call, spec)
        if not spec.executable and spec.container is None:
            raise Problem(400, "executable: neither a program nor a container was asked for")
        key = call.header("idempotency-key") if call.version.idempotent else ""

        def act() -> Document:
            kept = self._jobs.submit(spec, resource=resource.id, user=call.user, account=account, key=key)
            self._knobs.pass_by("submit_delay")  # the answer is late: what this knob is for
            return _view(kept, Standing(state="new", time=kept.submitted, message="job submitted"))

        return self._once(call, f"{call.user}:submit", key, spec, act)

    def _once(self, call: Call, scope: str, key: str, spec: JobSpec, act: Callable[[], Document]) -> JSONResponse:
        if not key:
            return JSONResponse(act())
        answer, hit = self._keys.once(scope, key, spec.model_dump(), act)
        return JSONResponse(answer, headers={"Idempotency-Key-Reply": "hit" if hit else "miss"})

    def _account(self, call: Call, spec: JobSpec) -> str:
        """In v2 it may come in a header instead, but from one place only."""
        header = call.header("x-iri-facility-project") if call.version.idempotent else ""
        if bool(header) == bool(spec.account):
            raise Problem(400, "account: it must be given, in exactly one place")
        account = header or spec.account
        if account not in self._accounts:
            raise Problem(400, f"sbatch: error: Batch job submission failed: Invalid account {account!r}")
        return account

    def update(self, call: Call) -> JSONResponse:
        """Only the name of a job that has not begun can be changed here."""
        call.query(Nothing)
        spec = call.body(JobSpec)
        kept = self._kept(call)
        key = call.header("idempotency-key") if call.version.idempotent else ""

        def act() -> Document:
            standing = self._jobs.standings([kept])[kept.id]
            if standing.state not in {"new", "queued", "held"}:
                raise Problem(400, f"job {kept.id} is {standing.state} and cannot be changed any more")
            if spec.model_dump(exclude={"name"}) != kept.spec.model_dump(exclude={"name"}):
                raise Problem(400, "only the name of a job can be changed")
            return _view(self._jobs.rename(kept, spec), standing)

        return self._once(call, f"{call.user}:update:{kept.id}", key, spec, act)

    def job(self, call: Call) -> JSONResponse:
        asked = call.query(OneQuery)
        kept = self._kept(call)
        if self._unseen.hides(f"one {kept.id}", self._knobs.unseen_polls):
            raise not_found("job")
        standing = self._jobs.standings([kept])[kept.id]
        if standing.state not in LIVE and asked.historical is False:
            raise not_found("job")
        return JSONResponse(_view(kept, standing, spec=bool(asked.include_spec) and self._knobs.job_names))

    def jobs(self, call: Call) -> JSONResponse:
        asked = call.query(ManyQuery)
        resource = self._status.working(call, "compute")
        filters = self._filters(call)
        mine = [each for each in self._jobs.every() if each.user == call.user and each.resource == resource.id]
        if filters.jobIds is not None:
            mine = [each for each in mine if each.id in filters.jobIds]
        seen = [each for each in mine if not self._unseen.hides(f"many {each.id}", self._knobs.unseen_polls)]
        standings = self._jobs.standings(seen)
        rows = [
            _view(each, standings[each.id], spec=bool(asked.include_spec) and self._knobs.job_names)
            for each in seen
            if (asked.historical or standings[each.id].state in LIVE) and filters.hold(each, standings[each.id])
        ]
        return JSONResponse(rows[asked.offset : asked.offset + asked.limit])

    def _filters(self, call: Call) -> Filters:
        if call.raw.strip() in (b"", b"null"):
            return Filters()
        if not self._knobs.filters:
            raise Problem(501, "filters not implemented")
        filters = call.body(Filters)
        return filters if self._knobs.heeds_filters else Filters()

    def cancel(self, call: Call) -> Response:
        call.query(Nothing)
        kept = self._kept(call)
        state = self._jobs.standings([kept])[kept.id].state
        if state not in LIVE:
            raise Problem(400, f"Job {kept.id} has finished")
        self._jobs.cancel(kept)
        return Response(status_code=204)

    def _kept(self, call: Call) -> Kept:
        resource = self._status.working(call, "compute")
        kept = self._jobs.get(resource.id, call.path("job_id"))
        if kept is None:
            raise not_found("job")
        return kept


def _view(kept: Kept, standing: Standing, *, spec: bool = False) -> Document:
    shown: Document = {"id": kept.id, "status": standing.document(kept.account)}
    return shown | ({"job_spec": kept.spec.model_dump(exclude_unset=True)} if spec else {})
