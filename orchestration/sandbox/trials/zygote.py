"""The process from which those of a trial are forked: ``python -m orchestration.sandbox.trials.zygote MODULE...``.

It has imported everything, which takes seconds, and has no thread, so that a child is a fresh process after
milliseconds. It reads one request per line (JSON) and answers each with one line.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any

import fastapi  # noqa: F401 -- Prefect imports it only when it makes a run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from orchestration.errors import OrchestrationError
from orchestration.flows.server import without_retries
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.operation import error_document
from orchestration.sandbox.trials.kills import Kill, Names


class Zygote:
    def __init__(self) -> None:
        self._results: dict[int, int] = {}

    def serve(self) -> None:
        """Until the standard input ends."""
        with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as answers:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what flows print goes to the log
            for line in sys.stdin:
                request = json.loads(line)
                answer = self._start(request) if request["do"] == "start" else self._wait(request["pid"])
                answers.write(json.dumps(answer) + "\n")

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        strangers = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if strangers:
            raise RuntimeError(f"a process with threads cannot be forked: {strangers}")
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _live(request, writing)
        os.close(writing)
        self._results[pid] = reading
        return {"pid": pid}

    def _wait(self, pid: int) -> dict[str, Any]:
        with os.fdopen(self._results.pop(pid), "rb") as pipe:
            content = pipe.read()
        _, status = os.waitpid(pid, 0)
        return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, "result": _parsed(content)}


def _parsed(content: bytes) -> Any:
    """Nothing where the process was killed before it had written all of it."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def _live(request: dict[str, Any], writing: int) -> None:
    """The whole life of a child."""
    code = 1
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), sys.stdin.fileno())
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(_result(request, writing), default=str).encode())
        code = 0
    except BaseException:  # the last that is heard of a child must be in the log
        traceback.print_exc()
    finally:
        os._exit(code)


def _result(request: dict[str, Any], last_words: int) -> dict[str, Any]:
    module, _, name = request["target"].partition(":")
    target = getattr(importlib.import_module(module), name)
    watch = _Watch(None if request["kill"] is None else Kill.parse(request["kill"]), last_words)
    result: dict[str, Any] = {"value": None, "error": None, "error_type": ""}
    try:
        with listening(watch.heard):
            result["value"] = target(**request["arguments"])
    except OrchestrationError as error:
        result |= {"error": error_document(error), "error_type": type(error).__name__}
    except BaseException as error:  # every end is reported to the parent
        traceback.print_exc()
        result |= {"error_type": type(error).__name__}
    return {**result, "boundaries": watch.reached}


class _Watch:
    """Notes the boundaries that this process reaches, and kills it at the chosen one."""

    def __init__(self, kill: Kill | None, last_words: int) -> None:
        self.reached: list[str] = []
        self._names = Names()
        self._kill = kill
        self._fitting = 0
        self._last_words = last_words
        self._lock = threading.Lock()

    def heard(self, boundary: Boundary, subject: str) -> None:
        with self._lock:
            name = self._names.name(boundary, subject)
            self.reached.append(name)
            if self._kill is not None and self._fatal(self._kill, name):
                os.write(self._last_words, json.dumps({"killed_at": name, "boundaries": self.reached}).encode())
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()

    def _fatal(self, kill: Kill, name: str) -> bool:
        if (kill.at and kill.at != name) or name in kill.spared:
            return False
        self._fitting += 1
        return self._fitting == kill.nth


def main(modules: list[str]) -> None:
    for named in modules:
        importlib.import_module(named)
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        without_retries()  # computed once for all children
        Zygote().serve()


if __name__ == "__main__":
    main(sys.argv[1:])
