"""Can this service read, write and delete at an endpoint, and set aside? Tried, and nothing is left behind."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.doctor.once import once
from orchestration.errors import EndpointRefused, OrchestrationError, ServiceUnavailable
from orchestration.globus.auth import TransferClients
from orchestration.globus.delete import GlobusDelete
from orchestration.globus.files import GlobusFiles
from orchestration.globus.rename import GlobusRename
from orchestration.ledger import Ledger
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.transfers import DeleteRequest, RenameRequest

PATIENCE_SECONDS = 120.0
PREFIX = ".orchestration-check-"


@dataclass(frozen=True)
class EndpointCheck:
    """Of one endpoint of the settings. Every method returns what was seen, and raises what is wrong."""

    clients: TransferClients
    endpoint: Endpoint

    def read(self) -> str:
        """Look for the endpoint's folder."""
        found = GlobusFiles(self.clients).entry(self.endpoint, self.endpoint.root_path)
        if found is None or not found.is_directory:
            raise EndpointRefused(
                f"there is no folder {self.endpoint.root_path}",
                where=self.endpoint.name,
                next_step=f"make it, or correct globus.globus_endpoints.{self.endpoint.name}.root_path in config.yml",
            )
        return self.endpoint.root_path

    def write_and_delete(self, ledger: Ledger) -> str:
        """Make a folder, and delete it by a task, as every deletion is one. `ledger` is one of `trials`."""
        name = _name()
        unanswered: ServiceUnavailable | None = None
        try:
            self._make(name)
        except ServiceUnavailable as silence:
            unanswered = silence  # the folder may be there all the same
        self._clear(name, ledger)
        if unanswered is not None:
            raise unanswered
        return "a folder was made and deleted"

    def set_aside(self, ledger: Ledger) -> str:
        """Make a folder, rename it into the quarantine, and delete it there; an empty quarantine may stay."""
        name = _name()
        aside = RelativePath(f"{QUARANTINE}/{name}/{name}")
        request = RenameRequest(endpoint=self.endpoint, path=name, to=aside, to_is_ours=True)
        trial = once(ledger, request, GlobusRename(self.clients), place=self.endpoint.place, seconds=PATIENCE_SECONDS)
        try:
            self._make(name)
            trial.run()
        finally:
            self._clear(name, ledger)
        return "a folder was set aside and deleted"

    def _clear(self, name: RelativePath, ledger: Ledger) -> None:
        try:
            self._delete(name, ledger)
        except OrchestrationError as error:
            raise self._leftover(name, error) from error

    def _make(self, name: RelativePath) -> None:
        collection, path = self.endpoint.require_uuid(), self.endpoint.full_path(name)
        self.clients.call(lambda client: client.operation_mkdir(collection, path), where=self.endpoint.name)
        if GlobusFiles(self.clients).entry(self.endpoint, path) is None:
            raise EndpointRefused(f"{path} was made and is not there", where=self.endpoint.name)

    def _delete(self, name: RelativePath, ledger: Ledger) -> None:
        request = DeleteRequest(
            endpoint=self.endpoint,
            paths=(name, RelativePath(f"{QUARANTINE}/{name}")),
            ignore_missing=True,
            label="check of this endpoint",
        )
        service = GlobusDelete(self.clients)
        once(ledger, request, service, place=self.endpoint.place, seconds=PATIENCE_SECONDS).run()

    def _leftover(self, name: RelativePath, error: OrchestrationError) -> EndpointRefused:
        return EndpointRefused(
            f"a folder can be made, and not deleted: {error.what}",
            where=self.endpoint.name,
            next_step="give this service's identity the right to delete, and see that "
            f"{self.endpoint.full_path(name)} is not there any more",
        )


def _name() -> RelativePath:
    return RelativePath(f"{PREFIX}{secrets.token_hex(8)}")
