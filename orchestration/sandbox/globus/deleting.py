"""What a delete task does. A path that is not there ends it at once, unless that is to be ignored."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestration.sandbox.globus import disk
from orchestration.sandbox.globus.codes import Fault
from orchestration.sandbox.globus.engine import Job


def delete(job: Job) -> None:
    """Carry out a delete task."""
    done = set(job.engine.tasks.arrived(job.task))
    with job.task.lock:
        job.task.numbers.pending = len(job.task.items)
        job.task.numbers.files = len(job.task.items)
        job.task.numbers.succeeded = 0
    for item in job.task.items:
        job.checkpoint()
        if item.source not in done:
            _remove(job, item.source)
        with job.task.lock:
            job.task.numbers.files_transferred += 1
        job.subtasks(pending=-1, succeeded=1)


def _remove(job: Job, path: str) -> None:
    try:
        with disk.access(job.task, job.source, path, command="DELE", write=True):
            place = job.source.local(path)
            if place == job.source.root:
                raise PermissionError(1, "The root of a collection cannot be deleted", path)
            _unlink(place, recursive=job.task.option("recursive"))
    except Fault as fault:
        if fault.code == "FILE_NOT_FOUND" and job.task.option("ignore_missing"):
            return
        raise
    job.engine.tasks.moved(job.task, path, {"path": path})
    job.engine.effects.happened("removed", job.task.id, key=job.task.submission, label=job.task.label, paths=(path,))


def _unlink(place: Path, *, recursive: bool) -> None:
    if not place.is_dir() or place.is_symlink():
        place.unlink()
    elif recursive:
        shutil.rmtree(place)
    else:
        raise IsADirectoryError(21, "Is a directory", str(place))
