"""HPSS, NERSC's tape archive: what its jobs are asked to do, what they leave, and what stands there now.

Bytes go to tape and back only in jobs of the queue ``xfer``, which run `orchestration.hpss`. A look is a command on a
login node: it reads the lists that lie beside the objects, and stages nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.config import ArchiveEndpoint, Credentials, NerscSite
from orchestration.errors import ChecksumMismatch, OperationFailed, OutputMissing, ServiceUnavailable
from orchestration.hpss.bundles import located
from orchestration.hpss.errors import MemberDamaged
from orchestration.hpss.manifest import Manifest, expanded
from orchestration.ledger.service import Document
from orchestration.nersc.calls import Calls
from orchestration.nersc.client import Clients
from orchestration.nersc.errands import Errands
from orchestration.nersc.script import outside
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts

LOOK_SECONDS = 120.0
"""How long a look may take; hsi signs in anew each time."""


@dataclass(frozen=True, kw_only=True)
class HpssArchive:
    """One archive. Safe for threads; nothing is asked before the first call."""

    archive: ArchiveEndpoint
    site: NerscSite
    credentials: Credentials

    @property
    def errands(self) -> Errands:
        return Errands(archive=self.archive, site=self.site)

    def inspect(self, path: RelativePath) -> FileFacts | None:
        """What stands there: an object, or a file or folder that is a member of one; None if nothing does.

        Raises:
            ServiceUnavailable: also while HPSS does not say.
        """
        name, member = located(path.text)
        found = self._looked(name, [member] if member else [])
        sizes = found.get("members")
        if not found.get("there") or not isinstance(sizes, dict):
            return None
        if not found.get("whole"):
            return FileFacts(is_directory=False, size=-1, modified=float(str(found["modified"])))
        return _facts({key: int(str(size)) for key, size in sizes.items()}, member, float(str(found["modified"])))

    def listed(self, path: str, *, sha256: str) -> Manifest:
        """The list of members that a job left at `path`, which had that checksum when the job ended.

        Raises:
            OutputMissing: if it is not there any more.
            ChecksumMismatch: if it is not as it was.
        """
        content = self._calls.download(outside(self.site, path))
        if content is None:
            raise OutputMissing("the list of what was archived is gone", where=f"{self.site.name}:{path}")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ChecksumMismatch("the list of what was archived is not as it was", where=f"{self.site.name}:{path}")
        try:
            return expanded(content, where=path)
        except MemberDamaged as error:
            raise ChecksumMismatch(error.what, where=error.where) from error

    def _looked(self, name: str, members: Sequence[str]) -> Document:
        where = f"{self.archive.name}:{name}"
        task = self._calls.finished(self._calls.run(self.errands.look(name, members)), within=LOOK_SECONDS)
        if task is None or not task.completed:
            raise ServiceUnavailable("the look at the archive did not end", where=where)
        try:
            found = json.loads(str(task.result.get("output") or ""))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = " ".join(str(task.result.get("error") or "").split())[-300:]
            raise ServiceUnavailable(f"the archive cannot be looked at: {said or 'no reason is given'}", where=where)
        return found

    @functools.cached_property
    def _calls(self) -> Calls:
        return Calls(clients=Clients(site=self.site, credentials=self.credentials), machine=self.site.machine)


def damage(error: OperationFailed) -> ChecksumMismatch | None:
    """What a job found that read an object back, if that was not what was stored."""
    if getattr(error, "cause", "") != MemberDamaged.__name__:
        return None
    return ChecksumMismatch(error.what, where=error.where, next_step=error.next_step)


def _facts(sizes: Mapping[str, int], member: str, modified: float) -> FileFacts | None:
    if not sizes:
        return None
    if member and set(sizes) == {member}:
        return FileFacts(is_directory=False, size=sizes[member], modified=modified)
    head = f"{member}/" if member else ""
    files = tuple(sorted((name.removeprefix(head), size) for name, size in sizes.items()))
    if not member and len(files) == 1 and files[0][0] == "":
        return FileFacts(is_directory=False, size=files[0][1], modified=modified)
    return FileFacts(is_directory=True, size=sum(sizes.values()), modified=modified, manifest=files)
