"""Starting flows in processes that can be killed, quickly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestration.ledger.service import Json
from orchestration.sandbox.trials.kills import Ended, Kill


class Nursery:
    """Forks a process for each run of a flow (or other function, named ``module:attribute``).

    `modules` are imported once, before anything is started; `log` takes what the processes print.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str], *, log: Path) -> None:
        self._log = log.open("ab")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestration.sandbox.trials.zygote", *modules],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._process as process:
            process.kill()
        self._log.close()

    def start(self, target: str, arguments: Mapping[str, Json], *, kill: Kill | None = None) -> Child:
        """Begin to run it in a process of its own."""
        described = None if kill is None else kill.document()
        request = {"do": "start", "target": target, "arguments": dict(arguments), "kill": described}
        return Child(self, int(self._ask(request)["pid"]))

    def run(self, target: str, arguments: Mapping[str, Json], *, kill: Kill | None = None) -> Ended:
        return self.start(target, arguments, kill=kill).wait()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        inlet, outlet = self._process.stdin, self._process.stdout
        if inlet is None or outlet is None:
            raise RuntimeError("the zygote has no pipes")
        with self._lock:
            inlet.write(json.dumps(request) + "\n")
            inlet.flush()
            line = outlet.readline()
        if not line:
            raise RuntimeError(f"the zygote died; see {self._log.name!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Child:
    """A process that runs a flow."""

    nursery: Nursery
    pid: int

    def signal(self, number: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        answer = self.nursery._ask({"do": "wait", "pid": self.pid})  # noqa: SLF001 -- a part of the nursery
        return Ended.parse(answer["result"], killed=answer["signal"] != 0)
