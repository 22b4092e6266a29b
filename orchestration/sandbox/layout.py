"""Where a sandbox keeps what: one directory, with a record of its processes that is always whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.errors import ConfigError
from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.processes import Process

DEFAULT = Path(".sandbox")
RECORD = "sandbox.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was started. Ports are remembered while nothing runs: the next start uses them again if it can."""

    processes: Mapping[str, Process] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)

    def document(self) -> Document:
        return {
            "version": 1,
            "processes": {name: {"pid": one.pid, "started": one.started} for name, one in self.processes.items()},
            "ports": dict(self.ports),
        }

    @classmethod
    def parse(cls, document: Document) -> Record:
        processes, ports = _mapping(document, "processes"), _mapping(document, "ports")
        return cls(
            processes={
                name: Process(pid=documents.whole(row, "pid"), started=documents.text(row, "started"))
                for name, row in processes.items()
                if isinstance(row, dict)
            },
            ports={name: documents.whole(ports, name) for name in ports},
        )


@dataclass(frozen=True)
class Layout:
    root: Path

    @classmethod
    def at(cls, directory: Path) -> Layout:
        return cls(directory.expanduser().absolute())

    @property
    def record_file(self) -> Path:
        return self.root / RECORD

    @property
    def environment_file(self) -> Path:
        return self.root / "env"

    @property
    def config_file(self) -> Path:
        return self.root / "config.yml"

    @property
    def facility_file(self) -> Path:
        return self.root / "facility.yml"

    @property
    def facility(self) -> Path:
        return self.root / "facility"

    @property
    def endpoints(self) -> Path:
        return self.root / "endpoints"

    @property
    def nersc(self) -> Path:
        """The key of the client of the Superfacility API."""
        return self.root / "nersc"

    @property
    def prefect(self) -> Path:
        return self.root / "prefect"

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.root / 'ledger.sqlite'}"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def exists(self) -> bool:
        return self.record_file.is_file()

    def read(self) -> Record:
        """The record; an empty one where there is no sandbox, or what is there cannot be read."""
        try:
            return Record.parse(documents.decode(self.record_file.read_bytes()))
        except (OSError, ValueError):
            return Record()

    def write(self, record: Record) -> None:
        """In one step: who reads it reads all of it."""
        part = self.root / f".{RECORD}.{os.getpid()}"
        part.write_text(json.dumps(record.document(), indent=2) + "\n")
        part.replace(self.record_file)

    def create(self) -> None:
        """Make the directory a sandbox.

        Raises:
            ConfigError: if it holds other things than a sandbox.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            if any(self.root.iterdir()):
                raise self._not_a_sandbox("it is not empty, and nothing in it says that it is a sandbox")
            self.write(Record())
        for folder in (self.logs, self.prefect, self.facility, self.endpoints):
            folder.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Delete the sandbox and all of its data.

        Raises:
            ConfigError: if the directory is not a sandbox.
        """
        if not self.root.exists():
            return
        if not self.exists() or self.root.is_symlink():
            raise self._not_a_sandbox("there is no sandbox in it")
        shutil.rmtree(self.root)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One `up`, `down` or `reset` at a time; the next one waits."""
        # Not in the directory itself, which `reset` removes while it holds the lock.
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"beamline-sandbox-{os.getuid()}-{digest}.lock"
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _not_a_sandbox(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.root} will not be touched: {why}",
            where="sandbox",
            next_step="name another directory with --state, or remove what is there yourself",
        )


def _mapping(document: Document, key: str) -> Document:
    value = document.get(key)
    return value if isinstance(value, dict) else {}
