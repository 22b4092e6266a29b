"""What runs in a worker of a Globus Compute endpoint: this text is sent there as it stands.

Standard library only, nothing of this project, and no syntax newer than Python 3.7: the worker's interpreter is the
endpoint's. The values that come and go are JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from typing import Any

# Ends the runner when the worker that waits for it is gone: the scheduler has then taken the computer back. A program
# cannot ask for that in the name of another, so this one asks for itself and then becomes the runner.
_TETHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit("%s: %s" % (sys.argv[2], error.strerror))
"""

_TAIL = 4096


def run_job(order: dict[str, Any]) -> dict[str, Any]:
    """Run the command of a job, and return what it left.

    `order` has the job's ``folder``, the ``words`` of the runner's command and its ``input``, and the words of a
    ``probe`` that is run if the runner leaves no report. The answer has the ``report`` (None if there is none), the
    exit ``code`` of the command, the end of its ``log``, and what the ``probe`` printed.
    """
    folder = order["folder"]
    found = _report(folder)
    if found is not None:
        return {"report": found, "submitted": order["submitted"]}
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "submitted"), "w", encoding="utf-8") as file:
        file.write(repr(order["submitted"]))
    log = os.path.join(folder, "runner.log")
    words = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *order["words"]]
    with open(log, "ab") as output:
        done = subprocess.run(
            words, input=order["input"].encode(), stdout=output, stderr=output, check=False, cwd=folder
        )
    answer = {"code": done.returncode, "report": _report(folder), "submitted": order["submitted"]}
    if answer["report"] is None:
        answer.update(log=_tail(log), probe=_probe(order["probe"]), started=_started(folder))
    return answer


def look(folder: str, stop: str, patience: float) -> dict[str, Any]:
    """How a job stands: its ``report``, how many seconds ago it was ``started`` (or None), why it was ``stopped``, and
    when it was ``submitted``, where its task has come as far as to tell.

    With a word in `stop` it is to end: one that has not begun never will, since this takes its place and makes that
    word the reason in its report; one that runs finds the marker and ends by itself. The first such word stays. If
    there is no report when the marker has been there for `patience` seconds, nobody runs it any more.
    """
    found = _report(folder)
    marker = os.path.join(folder, "cancel")
    if found is None and stop:
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(marker):
            with open(marker, "w", encoding="utf-8") as file:
                file.write(stop)
        if _claim(folder):
            found = _ended(folder, stop, "it had not begun")
        elif time.time() - os.stat(marker).st_mtime > patience:
            found = _ended(folder, stop, "its runner is gone")
        else:
            found = _report(folder)
    stands = {"report": found, "started": _started(folder), "stopped": _word(marker)}
    return {**stands, "submitted": float(_word(os.path.join(folder, "submitted")) or 0) or None}


def survey(folders: list[str]) -> dict[str, Any]:
    """How many seconds ago each of these jobs was started (or None), and whether it has left a report."""
    return {"found": [[_started(folder), os.path.exists(os.path.join(folder, "report.json"))] for folder in folders]}


def clear(folders: list[str], files: list[str]) -> dict[str, Any]:
    """Remove what jobs left that are over; why any of it is still there is told."""
    there = []
    for path in [*folders, *files]:
        try:
            shutil.rmtree(path) if path in folders else os.remove(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            there.append(f"{path}: {error}")
    return {"there": there}


def _report(folder: str) -> Any:
    try:
        with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:  # it appears whole: what cannot be read now was damaged, and stays so
        return {"reason": "unreadable", "error": str(error), "outputs": []}


def _started(folder: str) -> Any:
    try:
        return max(0.0, time.time() - os.stat(os.path.join(folder, "started.json")).st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _word(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(100)
    except IsADirectoryError:
        return "cancelled"  # as it is made from elsewhere, where a file cannot be written
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _claim(folder: str) -> bool:
    """Whether nobody had begun the job. The file is the runner's own, and so is the way in which it appears."""
    part = os.path.join(folder, f".started.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}")
    _write(part, {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time(), "job": "", "restart": "0"})
    try:
        os.link(part, os.path.join(folder, "started.json"))
    except FileExistsError:
        return False
    finally:
        os.unlink(part)
    return True


def _ended(folder: str, reason: str, error: str) -> dict[str, Any]:
    """Make a report, unless there is one after all; returns the one that is there."""
    made = {"version": 1, "exit_code": 130, "reason": reason, "code": None, "error": error, "outputs": []}
    made.update(seconds=0.0, started_at=0.0, host=socket.gethostname())
    made.update({name: _tail(os.path.join(folder, f"{name}.txt")) for name in ("stdout", "stderr")})
    part = os.path.join(folder, f".report.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}")
    _write(part, made)
    with contextlib.suppress(FileExistsError):
        os.link(part, os.path.join(folder, "report.json"))
    os.unlink(part)
    there: dict[str, Any] = _report(folder)
    return there


def _write(path: str, document: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())


def _tail(path: str) -> str:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        return file.read().decode("utf-8", errors="replace")
    return ""


def _probe(words: list[str]) -> str:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        return done.stdout.decode("utf-8", errors="replace")[-_TAIL:]
    return ""
