"""A folder of proposals, an archive beside it, and the program of the jobs, run as a job runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.hpss.manifest import Manifest
from orchestration.sandbox.superfacility.archive import flip
from orchestration.sandbox.superfacility.local import programs
from orchestration.sandbox.superfacility.local.hpss import FAULTS, OBJECTS

PROJECT = "ALS-00001"
ARCHIVE = "/home/a/alsdev/data_mover/8.3.2/raw"
APRIL_2026, AUGUST_2026 = 1_775_000_000, 1_786_000_000

HOSTILE: dict[bytes, bytes] = {
    b"plain.h5": b"a" * 3000,
    b"with space.h5": b"b",
    b"quote'\"quote.h5": b"c" * 511,
    b"$(touch pwned) `id`;&|*.h5": b"d" * 512,
    b"-rf --no-preserve.h5": b"e" * 513,
    "ünïcode 光.h5".encode(): b"f" * 1025,
    b"back\\slash.h5": b"g",
    b"not-utf8-\xff\xfe.h5": b"h" * 70,
    b"new\nline.h5": b"i" * 71,
    b" leading and trailing .h5 ": b"j",
    b"empty.h5": b"",
    b"deep/" * 40 + b"file.h5": b"k" * 10,
    b"n" * 200 + b".h5": b"l" * 11,
    b"%41percent.h5": b"m",
}
"""Names below the folder of a proposal, and what is in the files."""


@dataclass(frozen=True)
class Ended:
    code: int
    outcome: dict[str, Any]
    error: dict[str, Any]
    out: Path

    def object(self, at: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.outcome["objects"][at]
        return found


@dataclass(frozen=True)
class Bench:
    root: Path
    variables: dict[str, str]

    @classmethod
    def at(cls, root: Path) -> Bench:
        path = programs.install(root / "bin", images=(), archive=root / "hpss")
        variables = {"PATH": f"{path}:/usr/bin:/bin", "USER": "alsdev", "LANG": "C.UTF-8"}
        bench = cls(root, variables | {"PYTHONPATH": str(Path(__file__).parents[2])})
        for folder in (bench.source, bench.work):
            folder.mkdir()
        return bench

    @property
    def source(self) -> Path:
        return self.root / "raw"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def objects(self) -> set[str]:
        folder = self.root / "hpss" / OBJECTS / ARCHIVE.lstrip("/")
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    def stored(self, name: str) -> Path:
        return self.root / "hpss" / OBJECTS / ARCHIVE.lstrip("/") / name

    def file(self, name: bytes, content: bytes, *, at: float = APRIL_2026, project: str = PROJECT) -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.source / project), name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path

    def hostile(self) -> None:
        for name, content in HOSTILE.items():
            self.file(name, content)

    def fails(self, **faults: bool) -> None:
        (self.root / "hpss" / FAULTS).write_text(json.dumps(faults))

    def flip(self, name: str, byte: int) -> None:
        flip(self.stored(name), byte)

    def run(self, command: str, *words: str, kill: int | None = None) -> Ended:
        out, error = self.root / "out", self.root / "error.json"
        out.mkdir(exist_ok=True)
        for left in (out / "outcome.json", error):
            left.unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-m", "orchestration.hpss", command, f"--work={self.work}", f"--out={out}"]
        env = self.variables | {"ORCHESTRATION_ERROR_FILE": str(error)}
        done = subprocess.run(
            [*argv, *words], env=env, cwd=self.root, timeout=60, capture_output=True, text=True, check=False
        )
        outcome = json.loads((out / "outcome.json").read_text()) if (out / "outcome.json").exists() else {}
        if command == "look" and done.returncode == 0:
            outcome = json.loads(done.stdout)
        return Ended(done.returncode, outcome, json.loads(error.read_text()) if error.exists() else {}, out)

    def survey(self, *words: str, project: str = PROJECT) -> Ended:
        where = [f"--source={self.source}/{project}", f"--project={project}", f"--archive={ARCHIVE}"]
        ended = self.run("survey", *where, *words)
        assert ended.code == 0, ended.error
        return ended

    def store(self, plan: str) -> Ended:
        return self.run("store", f"--plan={plan}")

    def store_all(self, *words: str) -> list[str]:
        """The objects that are in the archive now."""
        planned = self.survey(*words).outcome["objects"]
        for each in planned:
            ended = self.store(each["plan"])
            assert ended.code == 0, ended.error
        return [each["object"] for each in planned]

    def manifest(self, name: str) -> Manifest:
        path = self.stored(f"{name}.manifest.json")
        return Manifest.read(path, where=str(path))
