"""Many datasets one after the other in one process: code is compiled, and libraries are imported, once for all."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from orchestration.science.errors import OutputFailed, ScienceError, typed
from orchestration.science.progress import Reporter, Style
from orchestration.science.running.session import PROGRESS_FILE
from orchestration.science.stopping import look
from orchestration.science.timing import Stopwatch
from orchestration.science.xpcs import documents, manifest
from orchestration.science.xpcs.correlate import Result, correlate
from orchestration.science.xpcs.documents import Document
from orchestration.science.xpcs.extra import Extra
from orchestration.science.xpcs.fitting import fitting
from orchestration.science.xpcs.metadata import this_program
from orchestration.science.xpcs.show_cli import METADATA, show
from orchestration.science.xpcs.tasks import Task


def run(tasks: Sequence[Task], *, plots: bool, keep_going: bool, progress: Style = "none") -> None:
    """Carry out all tasks, and write the outcome of each when it is known.

    Raises:
        OutputFailed: at the end, if an outcome could not be written.
        ScienceError: at once, if a dataset failed and the others are not to be begun then.
    """
    unwritten: list[OutputFailed] = []
    with Reporter(total=len(tasks), style=progress, unit="datasets") as reporter:
        for done, task in enumerate(tasks):
            look()
            _tell(done, len(tasks), task.name)
            error = _carry_out(task, plots=plots, unwritten=unwritten)
            if error is not None:
                click.echo(f"{task.name}: {error.sentence}", err=True)
                if not keep_going:
                    raise error
            reporter.advance(1)
    _tell(len(tasks), len(tasks), "")
    if unwritten:
        raise unwritten[0]


def _carry_out(task: Task, *, plots: bool, unwritten: list[OutputFailed]) -> ScienceError | None:
    watch = Stopwatch()
    told: Document = {
        "version": 1,
        "name": task.name,
        "state": "failed",
        "error": None,
        "result": None,
        "receipt": None,
        "metadata": None,
        "files": [],
    }
    failed: ScienceError | None = None
    try:
        # What an earlier run says is not true any more from here on.
        task.outcome.unlink(missing_ok=True)
        _compute(task, told, watch, plots=plots)
        told["state"] = "done"
    except Exception as error:
        failed = _reported(error)
        told["error"] = _described(failed)
    told["seconds"] = {stage: watch.seconds.get(stage, 0.0) for stage in ("correlate", "plot")}
    try:
        documents.put(task.outcome, fitting(told))
    except OutputFailed as error:
        unwritten.append(error)
    return failed


def _compute(task: Task, told: Document, watch: Stopwatch, *, plots: bool) -> None:
    """Correlate and draw; `told` has everything that was put in place so far."""
    with watch.stage("correlate"):
        found = correlate(task.request)
    told |= {
        "result": str(found.path),
        "receipt": documents.load(found.receipt),
        "files": manifest.files(found.path),
    }
    if not plots:
        return
    with watch.stage("plot"):
        # Should the pictures fail, those of an earlier result are not to be taken for those of this one.
        (task.resources / METADATA).unlink(missing_ok=True)
        shown = show(found.path, task.resources, model=task.model, extra=_extra(task.extra, found))
    told |= {"metadata": documents.load(task.resources / METADATA), "files": manifest.files(found.path, shown)}


def _extra(extra: Extra, found: Result) -> Extra:
    """With this program among the tools, unless whoever asks for it has said so already."""
    tool = this_program("correlate", found.seconds)
    known = any(each.name == tool.name for each in extra.tools)
    return extra if known else replace(extra, tools=(*extra.tools, tool))


def _reported(error: Exception) -> ScienceError:
    failed = typed(error)
    if type(failed) is ScienceError:
        # A defect of this program: the stack helps whoever reads the log.
        traceback.print_exception(error)
    return failed


def _described(error: ScienceError) -> Document:
    return {
        "type": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "next_step": error.next_step,
    }


def _tell(done: int, total: int, name: str) -> None:
    """Say how far it is to whoever runs this as a job."""
    path = os.environ.get(PROGRESS_FILE)
    if path:
        # No dataset is to fail for that.
        with contextlib.suppress(OSError), Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"done": done, "total": total, "unit": "datasets", "note": name}) + "\n")
