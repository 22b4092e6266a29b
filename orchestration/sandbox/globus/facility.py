"""The Globus half of the facility, put together."""

from __future__ import annotations

from datetime import timedelta

from starlette.routing import BaseRoute, Mount

from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus import deleting, moving
from orchestration.sandbox.globus.auth import Auth
from orchestration.sandbox.globus.collections import Collections
from orchestration.sandbox.globus.endpoints import Endpoints
from orchestration.sandbox.globus.engine import Engine, Job
from orchestration.sandbox.globus.flows import Flows
from orchestration.sandbox.globus.operations import Operations
from orchestration.sandbox.globus.submission import Submissions
from orchestration.sandbox.globus.tasks import Tasks
from orchestration.sandbox.globus.tokens import Tokens
from orchestration.sandbox.globus.transfer import Transfer
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.store import Store


class Globus:
    """Auth, Transfer and Flows over one store."""

    def __init__(self, settings: Settings, store: Store, effects: Effects) -> None:
        self._store, self._effects = store, effects
        self.tokens = Tokens(store, lifetime=settings.token_lifetime)
        self.collections = Collections(settings.collections, store)
        self.tasks = Tasks(store)
        self.engine = Engine(self.tasks, self.collections, effects, retry=settings.retry, work=_work)
        self._submissions = Submissions(
            tasks=self.tasks,
            collections=self.collections,
            engine=self.engine,
            effects=effects,
            deadline=timedelta(seconds=settings.deadline),
        )
        self._clients = settings.clients

    def routes(self) -> list[BaseRoute]:
        transfer = Transfer(self._submissions, self.tasks, self.collections, self.tokens).routes()
        transfer += Operations(self.collections, self.tokens, self._effects).routes()
        transfer += Endpoints(self.collections, self.tokens).routes()
        flows = Flows(self.tokens, self._store, self._effects).routes()
        auth = Auth(self.tokens, clients=self._clients).routes()
        return [Mount("/auth", routes=auth), Mount("/transfer", routes=transfer), Mount("/flows", routes=flows)]

    def reset(self) -> None:
        """Stop and forget all tasks and switches; the store is cleared by the caller."""
        self.engine.stop()
        self.tasks.forget_all()
        self.collections.reset()
        self.engine.resume()


def _work(job: Job) -> None:
    if job.task.is_transfer:
        moving.transfer(job)
    else:
        deleting.delete(job)
