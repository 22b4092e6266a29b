"""Can this service read, write and delete at an endpoint? Tried, and nothing is left behind."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.errors import EndpointRefused, OrchestrationError
from orchestration.globus.auth import TransferClients
from orchestration.globus.delete import GlobusDelete
from orchestration.globus.files import GlobusFiles
from orchestration.ledger.service import Failed, Succeeded
from orchestration.paths import RelativePath
from orchestration.transfers import DeleteRequest

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

    def write(self) -> RelativePath:
        """Make a folder; its name, which is to be given to `delete`."""
        name = RelativePath(f"{PREFIX}{secrets.token_hex(8)}")
        collection, path = self.endpoint.require_uuid(), self.endpoint.full_path(name)
        self.clients.call(lambda client: client.operation_mkdir(collection, path), where=self.endpoint.name)
        if GlobusFiles(self.clients).entry(self.endpoint, path) is None:
            raise EndpointRefused(f"{path} was made and is not there", where=self.endpoint.name)
        return name

    def delete(self, name: RelativePath) -> None:
        """Delete what `write` has made, by a task as every deletion is one."""
        service = GlobusDelete(self.clients)
        request = DeleteRequest(endpoint=self.endpoint, paths=(name,), label="check of this endpoint")
        handle = service.submit(request, service.reserve(name.text))
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            status = service.poll(request, handle)
            if isinstance(status, Succeeded):
                return
            if isinstance(status, Failed):
                raise status.error
            if time.monotonic() > until:
                service.cancel(handle)
                raise _leftover(self.endpoint, name, f"it was not deleted within {PATIENCE_SECONDS:.0f} s")
            threading.Event().wait(0.2)

    def write_and_delete(self) -> str:
        name = self.write()
        try:
            self.delete(name)
        except OrchestrationError as error:
            raise _leftover(self.endpoint, name, error.what) from error
        return "a folder was made and deleted"


def _leftover(endpoint: Endpoint, name: RelativePath, why: str) -> EndpointRefused:
    return EndpointRefused(
        f"a folder can be made, and not deleted: {why}",
        where=endpoint.name,
        next_step=f"give this service's identity the right to delete, and delete {endpoint.full_path(name)} by hand",
    )
