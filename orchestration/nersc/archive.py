"""HPSS, NERSC's tape archive: what its jobs are asked to do, what they leave, and what stands there now.

Bytes go to tape and back only in jobs of the queue ``xfer``, which run `orchestration.hpss`. A look is a command on a
login node: it reads the lists that lie beside the objects, and stages nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.config import ArchiveEndpoint, Credentials, NerscSite
from orchestration.errors import ChecksumMismatch, OperationFailed, OutputMissing, ServiceUnavailable
from orchestration.hpss.bundles import Cycle, located
from orchestration.hpss.errors import MemberDamaged
from orchestration.hpss.manifest import Manifest, expanded
from orchestration.jobs import Output, OutputKind
from orchestration.ledger.service import Document
from orchestration.nersc.calls import Calls
from orchestration.nersc.client import Clients
from orchestration.nersc.script import outside
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts

PROGRAM = ("-P", "-m", "orchestration.hpss")
OUTCOME, LIST = "outcome.json", "manifest.json.gz"

SURVEY_SECONDS, REMOVE_SECONDS = 2 * 3600.0, 1800.0
"""What reads and writes no data, but names of files and lists."""

LOOK_SECONDS = 120.0
"""How long a look may take; hsi signs in anew each time."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What one job does: the arguments of its interpreter, its directory, and the outputs without which it failed."""

    name: str
    arguments: tuple[str, ...]
    directory: str
    outputs: tuple[Output, ...]
    seconds: float = math.inf
    """The most that it may take; a queue lets short jobs begin sooner."""

    @property
    def outcome(self) -> str:
        return posixpath.join(self.directory, OUTCOME)

    @property
    def list(self) -> str:
        return posixpath.join(self.directory, LIST)


@dataclass(frozen=True, kw_only=True)
class Errands:
    """The jobs of one archive. Equal errands are the same work."""

    archive: ArchiveEndpoint
    site: NerscSite

    def survey(self, source: str, project: str, *, number: int, cycle: Cycle | None = None) -> Errand:
        """What of a proposal is to be archived; `source` is the folder of proposals as jobs see it."""
        limits = self.archive
        words = [f"--source={source}", f"--project={project}", f"--limit-bundle={int(limits.bundle_limit)}"]
        words += [f"--limit-member={int(limits.member_limit)}", f"--limit-members={limits.bundle_files}"]
        words += [] if cycle is None else [f"--cycle={cycle}"]
        return self._errand("survey", [*words, self._archive], work=self._plans, number=number)

    def store(self, plan: str) -> Errand:
        """Of a plan that a survey left, by its digest."""
        return self._errand("store", [f"--plan={plan}"], work=self._plans, listed=True)

    def fetch(self, name: str, members: Sequence[str], destination: str) -> Errand:
        """All members of an object, or those that are named, to below a folder of the facility."""
        words = [*self._object(name), f"--destination={destination}", *_members(members)]
        return self._errand("fetch", words)

    def verify(self, name: str, members: Sequence[str], *, since: float) -> Errand:
        """Reads back what was verified at that time last."""
        return self._errand("verify", [*self._object(name), *_members(members)], number=since)

    def remove(self, name: str, *, generation: int) -> Errand:
        return self._errand("remove", self._object(name), number=generation)

    def look(self, name: str, members: Sequence[str]) -> list[str]:
        """The command of a look."""
        words = ["look", f"--work={self._folder}", *self._object(name), *_members(members)]
        return [self.site.python, *PROGRAM, *words]

    def _errand(
        self, name: str, words: Sequence[str], *, work: str = "", number: float = 0, listed: bool = False
    ) -> Errand:
        told = json.dumps([self.archive.name, name, [*words], number])
        directory = posixpath.join(self._folder, f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:24]}")
        outputs = [Output(path=posixpath.join(directory, OUTCOME), kind=OutputKind.JSON)]
        outputs += [Output(path=posixpath.join(directory, LIST))] if listed else []
        arguments = (*PROGRAM, name, f"--work={work or directory}", f"--out={directory}", *words)
        seconds = {"survey": SURVEY_SECONDS, "remove": REMOVE_SECONDS}.get(name, math.inf)
        return Errand(name=name, arguments=arguments, directory=directory, outputs=tuple(outputs), seconds=seconds)

    def _object(self, name: str) -> list[str]:
        return [self._archive, f"--object={name}"]

    @property
    def _archive(self) -> str:
        return f"--archive={self.archive.root}"

    @property
    def _folder(self) -> str:
        return self.site.below_root(self.archive.log_folder)

    @property
    def _plans(self) -> str:
        return posixpath.join(self._folder, "plans")


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


def _members(names: Sequence[str]) -> list[str]:
    return [f"--member={name}" for name in names]


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
