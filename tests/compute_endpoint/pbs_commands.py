"""The commands of PBS that an endpoint uses, in a folder: jobs are process groups of this machine.

``install`` writes qsub, qstat, qdel and mpiexec; the folder ``jobs`` beside them has what was asked, a file per job.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("qsub", "qstat", "qdel", "mpiexec")


def install(folder: Path) -> None:
    (folder / "jobs").mkdir(parents=True)
    for name in NAMES:
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$0" "$@"\n')
        command.chmod(0o755)


def jobs(folder: Path) -> list[dict[str, object]]:
    return [json.loads(file.read_text()) for file in sorted((folder / "jobs").glob("*.json"))]


def main(command: Path, words: list[str]) -> None:
    {"qsub": qsub, "qstat": qstat, "qdel": qdel, "mpiexec": mpiexec}[command.name](command.parent / "jobs", words)


def qsub(folder: Path, words: list[str]) -> None:
    script = Path(words[-1])
    identity = f"{time.time_ns()}.pbs"
    node = folder / f"{identity}.node"
    node.write_text("localhost\n")
    # As PBS does it: nothing of the submitter's environment, and the job in its own home.
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "PBS_JOBID": identity, "PBS_NODEFILE": str(node)}
    with (folder / f"{identity}.out").open("w") as printed:
        child = subprocess.Popen(
            ["/bin/bash", str(script)],
            env=variables,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    asked = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
    directives = [line for line in script.read_text().splitlines() if line.startswith("#PBS")]
    document = {"id": identity, "group": child.pid, "asked": asked, "directives": directives}
    part = folder / f"{identity}.part"
    part.write_text(json.dumps(document))
    part.rename(folder / f"{identity}.json")
    sys.stdout.write(f"{identity}\n")


def qstat(folder: Path, words: list[str]) -> None:
    rows = {}
    for identity in words:
        file = folder / f"{identity}.json"
        if file.exists():
            rows[identity] = {"job_state": "R" if _alive(json.loads(file.read_text())["group"]) else "F"}
    sys.stdout.write(json.dumps({"Jobs": rows}))


def qdel(folder: Path, words: list[str]) -> None:
    for identity in words:
        os.killpg(json.loads((folder / f"{identity}.json").read_text())["group"], signal.SIGTERM)


def mpiexec(folder: Path, words: list[str]) -> None:
    """Options up to the host file, and the command after it."""
    command = words[words.index("--hostfile") + 2 :]
    os.execvp(command[0], command)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
