"""Keeping a job from beginning through its folder, where the interface of its site does not answer."""

from __future__ import annotations

import contextlib
import posixpath
from dataclasses import dataclass

from orchestration.config import Endpoint, RemoteSite
from orchestration.errors import InvalidInput, OperationFailed
from orchestration.globus.auth import TransferClients
from orchestration.globus.files import GlobusFiles
from orchestration.remote import CANCEL_MARKER, STARTED


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Of the jobs of one site; `endpoint` is on a collection with the folders of its jobs.

    The runner of a job leaves a mark that it has begun, and then looks for the cancel marker. Here the marker is made
    first, and the mark looked for then. So whatever the order in which the two come, one of them sees the other.
    """

    clients: TransferClients
    site: RemoteSite
    endpoint: Endpoint

    def begun(self, token: str) -> bool:
        """Whether the job of this token has begun, or is over.

        Raises:
            OrchestrationError: if that cannot be told; it may be asked again.
        """
        return self._stands(posixpath.join(self._folder(token), STARTED))

    def stop(self, token: str) -> None:
        """Return once the marker stands that keeps the job of this token from beginning, and stops one that runs.

        Raises:
            OrchestrationError: if it is not certain that it does; it may be asked again.
        """
        folder = self._folder(token)
        marker = posixpath.join(folder, CANCEL_MARKER)
        for path in (posixpath.dirname(folder), folder, marker):
            self._make(path)
        if not self._stands(marker):
            raise OperationFailed(f"no cancel marker could be made at {marker}", where=self.endpoint.name)

    def shut(self, token: str) -> None:
        """Return once it is certain that the job of this token has not begun, and never will.

        Raises:
            OrchestrationError: if it is not; the marker may be there, and stops a job that had begun. It may be asked
                again.
        """
        self.stop(token)
        if self.begun(token):
            raise OperationFailed("the job was beginning at that moment, and ends by itself", where=self.endpoint.name)

    def _folder(self, token: str) -> str:
        """On the collection, of which jobs see more than the collection shows."""
        below = posixpath.relpath(self.site.job_folder, self.site.root)
        if below.startswith(".."):
            raise InvalidInput(
                f"the folder of jobs, {self.site.job_folder}, is not on the collection of {self.endpoint.name}",
                where=f"compute_sites.{self.site.name}",
                next_step="choose a job_folder below root",
            )
        return posixpath.join("/", below, token)

    def _make(self, path: str) -> None:
        """A directory is as good a marker as a file, and can be made without one to copy."""
        collection = self.endpoint.require_uuid()
        with contextlib.suppress(OperationFailed):  # mostly that it is there already: what is there is looked at next
            self.clients.call(
                lambda client: client.operation_mkdir(collection, path), where=f"{self.endpoint.name}:{path}"
            )

    def _stands(self, path: str) -> bool:
        return GlobusFiles(self.clients).entry(self.endpoint, path) is not None
