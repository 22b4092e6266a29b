"""The Superfacility API half of the facility, put together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute, Mount

from orchestration.sandbox.effects import Effects
from orchestration.sandbox.slurm.scheduler import SlurmScheduler
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility.account import Account
from orchestration.sandbox.superfacility.archive import Archive
from orchestration.sandbox.superfacility.clients import Clients
from orchestration.sandbox.superfacility.compute import Compute
from orchestration.sandbox.superfacility.control import Control
from orchestration.sandbox.superfacility.files import Files
from orchestration.sandbox.superfacility.knobs import Board
from orchestration.sandbox.superfacility.local.scheduler import HPSS, LocalScheduler
from orchestration.sandbox.superfacility.oidc import TokenEndpoint
from orchestration.sandbox.superfacility.places import API, OIDC
from orchestration.sandbox.superfacility.scheduler import Scheduler
from orchestration.sandbox.superfacility.settings import USER, SuperfacilitySettings
from orchestration.sandbox.superfacility.status import Status
from orchestration.sandbox.superfacility.tasks import Tasks
from orchestration.sandbox.superfacility.tokens import Tokens
from orchestration.sandbox.superfacility.transfers import Transfers
from orchestration.sandbox.superfacility.utilities import Utilities

STARTED = "job-start"
"""Kind of the effect of a job that began; its key is the job's name, its id the job's."""


class Superfacility:
    """The API and its token endpoint over one store and one batch system.

    `folder` is for the batch system; files may also be in `roots`, such as the directories of collections.
    """

    def __init__(
        self,
        settings: SuperfacilitySettings,
        *,
        store: Store,
        effects: Effects,
        folder: Path,
        roots: Iterable[Path] = (),
    ) -> None:
        def started(job: str, name: str) -> None:
            effects.happened(STARTED, job, key=name)

        self.scheduler: Scheduler = (
            SlurmScheduler(settings)
            if settings.scheduler == "slurm"
            else LocalScheduler(settings, store=store, folder=folder, started=started)
        )
        self._archive = Archive(folder / HPSS)
        self.board = Board(store)
        self.tokens = Tokens(store)
        self.clients = Clients(settings.clients, store)
        self.status = Status(store, machine=settings.machine)
        self.tasks = Tasks(store, self.tokens, self.board)
        files = Files(
            self.scheduler,
            roots=[root.resolve() for root in (*settings.roots, *roots)],
            limit=settings.file_limit,
        )
        self._transfers = Transfers(
            store=store, tokens=self.tokens, tasks=self.tasks, files=files, machine=settings.machine
        )
        self._account = Account(
            store=store,
            tokens=self.tokens,
            clients=self.clients,
            scheduler=self.scheduler,
            projects=settings.projects,
            board=self.board,
        )
        self._compute = Compute(
            machine=settings.machine,
            tokens=self.tokens,
            tasks=self.tasks,
            scheduler=self.scheduler,
            board=self.board,
            effects=effects,
        )
        self._utilities = Utilities(
            machine=settings.machine,
            tokens=self.tokens,
            tasks=self.tasks,
            scheduler=self.scheduler,
            files=files,
            board=self.board,
            limit=settings.file_limit,
        )
        self._oidc = TokenEndpoint(self.clients, self.tokens, lifetime=self._lifetime)
        self._default_lifetime = settings.token_lifetime
        self._control = Control(
            board=self.board,
            status=self.status,
            clients=self.clients,
            tokens=self.tokens,
            scheduler=self.scheduler,
            machine=settings.machine,
            user=settings.clients[0].user if settings.clients else USER,
        )

    def routes(self) -> list[BaseRoute]:
        api = [
            *self.status.routes(),
            *self._account.routes(),
            *self.tasks.routes(),
            *self._compute.routes(),
            *self._utilities.routes(),
            *self._transfers.routes(),
        ]
        return [
            *self._control.routes(),
            *self._archive.routes(),
            Mount(API, routes=api),
            Mount(OIDC, routes=self._oidc.routes()),
        ]

    def open(self) -> None:
        """Go on where it was."""
        self.tasks.open()
        self._transfers.open()
        self.scheduler.open()
        if self.board.now.held:
            self.scheduler.hold(held=True)

    async def close(self) -> None:
        """Let go; the jobs live on."""
        await self.tasks.close()
        await run_in_threadpool(self.scheduler.close)

    def reset(self) -> None:
        """End all jobs and forget everything; the store is cleared by the caller."""
        self.tasks.reset()
        self.scheduler.reset()
        if self.board.now.held:
            self.scheduler.hold(held=False)
        self.board.reset()

    def _lifetime(self) -> int:
        turned = self.board.now.token_lifetime
        return self._default_lifetime if turned is None else turned
