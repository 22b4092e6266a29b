"""What jobs of HPSS are asked to do, and what they leave in the `log_folder` of their archive."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.config import ArchiveEndpoint, NerscSite
from orchestration.hpss.bundles import Cycle
from orchestration.jobs import Output, OutputKind

PROGRAM = ("-P", "-m", "orchestration.hpss")
OUTCOME, LIST = "outcome.json", "manifest.json.gz"

SURVEY_SECONDS, REMOVE_SECONDS = 2 * 3600.0, 1800.0
"""What reads and writes no data, but names of files and lists."""

_DIRECTORY = re.compile(r"(survey|store|fetch|verify|remove)-[0-9a-f]{24}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
        words = [f"--source={posixpath.join(source, project)}", f"--project={project}"]
        words += [f"--limit-bundle={int(limits.bundle_limit)}", f"--limit-member={int(limits.member_limit)}"]
        words += [f"--limit-members={limits.bundle_files}"]
        words += [] if cycle is None else [f"--cycle={cycle}"]
        return self._errand("survey", [*words, self._archive], work=self._plans, number=number)

    def store(self, plan: str) -> Errand:
        """Of a plan that a survey left, by its digest."""
        return self._errand("store", [f"--plan={plan}"], work=self._plans, listed=True)

    def fetch(self, name: str, members: Sequence[str], destination: str) -> Errand:
        """All members of an object, or those that are named, to the folder of their proposal at the facility."""
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

    def owns(self, directory: str) -> bool:
        """Whether it is that of a job of this archive."""
        folder, _, name = directory.rpartition("/")
        return folder == self._folder and _DIRECTORY.fullmatch(name) is not None

    def planned(self, plan: str) -> tuple[str, str] | None:
        """The folder in which a job stores by that plan, and the file with the plan; None if it is no plan's digest."""
        if _DIGEST.fullmatch(plan) is None:
            return None
        return posixpath.join(self._plans, plan[:32]), posixpath.join(self._plans, f"{plan}.plan.json")

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


def _members(names: Sequence[str]) -> list[str]:
    return [f"--member={name}" for name in names]
