"""Where a cluster keeps what: one directory, which the cluster itself calls `/facility`."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestration.errors import ConfigError
from orchestration.sandbox import documents
from orchestration.sandbox.processes import Process

INSIDE = PurePosixPath("/facility")
"""The directory as everything inside the namespace calls it: no path of the machine stands in any settings file."""

RECORD = "cluster.json"

USER = "alsdev"
USER_ID = 48_321
"""Of the facility's user; the machine around it knows neither the name nor the number."""

HOME = PurePosixPath("/global/homes/a") / USER
SCRATCH = PurePosixPath("/pscratch/sd/a") / USER
PROJECT = PurePosixPath("/global/cfs/cdirs/als")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was started. Ports are remembered while nothing runs: the next start uses them again if it can.

    `keeper` is the process that holds the namespace, `group` the name of its control groups (empty: none).
    """

    ports: tuple[int, ...] = ()
    keeper: Process | None = None
    group: str = ""


@dataclass(frozen=True)
class Files:
    root: Path

    @classmethod
    def at(cls, directory: Path) -> Files:
        return cls(directory.expanduser().resolve())

    @property
    def settings(self) -> Path:
        return self.root / "etc"

    @property
    def database(self) -> Path:
        return self.root / "db"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def programs(self) -> Path:
        return self.root / "bin"

    @property
    def tree(self) -> Path:
        """What is at `/` inside: `pscratch` and `global`."""
        return self.root / "fs"

    def outside(self, inside: PurePosixPath | str) -> Path:
        """Where this machine finds a file of the facility's own file systems."""
        return self.tree / str(inside).lstrip("/")

    @property
    def lock(self) -> Path:
        """Beside the directory, which may be deleted while it is held."""
        return self.root.with_name(f".{self.root.name}.lock")

    def exists(self) -> bool:
        return (self.root / RECORD).is_file()

    def create(self) -> None:
        """Raises: ConfigError, if the directory holds something else."""
        if self.root.exists() and not self.exists() and any(self.root.iterdir()):
            raise ConfigError("that directory holds something else", where=str(self.root), next_step="name a new one")
        for part in ("etc", "state", "spool", "log", "run", "dev", "bin", "root", "fs"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        os.chmod(self.root, 0o755)  # noqa: S103 -- the facility's users run its programs
        if not self.exists():
            self.write(Record())
        slurm = pwd.getpwnam("slurm")
        for part in ("state", "log", "run"):
            os.chown(self.root / part, slurm.pw_uid, slurm.pw_gid)
        for directory in (HOME, SCRATCH, PROJECT):
            place = self.outside(directory)
            place.mkdir(parents=True, exist_ok=True)
            os.chown(place, USER_ID, USER_ID)

    def remove(self) -> None:
        """Raises: ConfigError, if the directory is no cluster's."""
        if not self.root.exists():
            return
        if not self.exists():
            raise ConfigError("there is no cluster in that directory; nothing was deleted", where=str(self.root))
        shutil.rmtree(self.root)
        self.lock.unlink(missing_ok=True)

    def read(self) -> Record:
        if not self.exists():
            return Record()
        try:
            document = documents.decode((self.root / RECORD).read_bytes())
        except documents.NotADocument as error:
            raise ConfigError(f"the record of this cluster is damaged: {error}", where=str(self.root)) from error
        keeper = documents.object_at(document, "keeper")
        ports = document.get("ports")
        return Record(
            ports=tuple(one for one in ports if isinstance(one, int)) if isinstance(ports, list) else (),
            keeper=Process(pid=documents.whole(keeper, "pid"), started=documents.text(keeper, "started"))
            if keeper
            else None,
            group=documents.text(document, "group"),
        )

    def write(self, record: Record) -> None:
        keeper = record.keeper
        document = {
            "ports": list(record.ports),
            "keeper": {"pid": keeper.pid, "started": keeper.started} if keeper else None,
            "group": record.group,
        }
        part = self.root / f".{RECORD}.{os.getpid()}"
        part.write_text(json.dumps(document))
        part.replace(self.root / RECORD)
