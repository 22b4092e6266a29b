"""A program that goes on until its time is over: streaming reconstruction while a scan is taken, for instance.

To be stopped at the end of its time is the good end of such a program; to end earlier by itself with a failure is not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from orchestration.science.running.processes import die_with_parent, ended, kill_group

PROGRESS_FILE = "ORCHESTRATION_PROGRESS_FILE"
RECORD = "session.json"
GRACE_SECONDS = 10.0
_LOOK_SECONDS = 1.0


class Session:
    def __init__(self, words: list[str], *, seconds: float, record: Path) -> None:
        self._words = words
        self._seconds = seconds
        self._record = record
        self._terminated = False
        signal.signal(signal.SIGTERM, self._on_terminate)

    def run(self) -> int:
        """0 if it went on to the end of its time, or ended well before; the record says which."""
        began = time.monotonic()
        try:
            child = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
            )
        except OSError as error:
            sys.stderr.write(f"the program could not be started: {error.strerror}: {error.filename}\n")
            return 127
        try:
            end = self._watch(child, began)
        finally:
            kill_group(child.pid, signal.SIGKILL)
            code = child.wait()
        lasted = round(time.monotonic() - began, 3)
        self._write({"ended": end, "seconds": lasted, "code": code})
        if end == "by itself":
            return code if code >= 0 else 128 - code
        return 0 if end == "at the end of its time" else 143

    def _watch(self, child: subprocess.Popen[bytes], began: float) -> str:
        end = began + self._seconds
        while True:
            left = end - time.monotonic()
            if ended(child.pid, timeout=max(0.0, min(_LOOK_SECONDS, left))):
                return "because it was told to" if self._terminated else "by itself"
            self._tell(time.monotonic() - began)
            if self._terminated or left <= 0:
                kill_group(child.pid, signal.SIGTERM)
                ended(child.pid, timeout=GRACE_SECONDS)
                return "because it was told to" if self._terminated else "at the end of its time"

    def _tell(self, lasted: float) -> None:
        if path := os.environ.get(PROGRESS_FILE):
            line = {"done": int(lasted), "total": int(self._seconds), "note": "streaming, in seconds"}
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _write(self, record: dict[str, object]) -> None:
        part = self._record.with_name(f".{self._record.name}.{os.getpid()}")
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(self._record)

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True


def main(arguments: list[str]) -> int:
    """``session SECONDS RECORD -- PROGRAM [WORD...]``"""
    try:
        seconds, record, dashes, *words = arguments
        if dashes != "--" or not words or not float(seconds) > 0:
            raise ValueError("there must be a positive number of seconds, and a program behind --")
    except ValueError as error:
        sys.stderr.write(f"usage: session SECONDS RECORD -- PROGRAM [WORD...] ({error})\n")
        return 2
    return Session(words, seconds=float(seconds), record=Path(record)).run()
