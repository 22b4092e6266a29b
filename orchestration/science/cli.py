"""The command line of the science programs: ``python -m orchestration.science <technique> <command>``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import click

from orchestration.science.commands import Deferred
from orchestration.science.errors import Interrupted, OutputFailed, ParametersInvalid, ScienceError
from orchestration.science.stopping import Stopped, stoppable

ERROR_FILE = "ORCHESTRATION_ERROR_FILE"
"""Environment variable that names a file for the error, as JSON, when a command fails."""


TECHNIQUES = ("checksums", "tomography", "xpcs")
"""Each has a package here, whose module `cli` has a command, or a group of commands, of the same name."""


@click.group(
    cls=Deferred,
    modules={name: f"orchestration.science.{name}.cli" for name in TECHNIQUES},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
def science() -> None:
    """Computes results from scan files."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 1 with one sentence on standard error."""
    with stoppable():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        science.main(args=arguments, prog_name="python -m orchestration.science", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except ScienceError as error:
        return _fail(error)
    except click.ClickException as error:
        return _fail(ParametersInvalid(" ".join(error.format_message().split()), where="command line"), code=2)
    except (Stopped, click.Abort, SystemExit):
        return _fail(Interrupted("the program was told to stop"), code=130)
    except MemoryError:
        return _fail(OutputFailed("memory ran out", next_step="give less with --memory, or use fewer --threads"))
    except OSError as error:
        return _fail(OutputFailed(f"{error.strerror or error}", where=str(error.filename or "")))
    except Exception as error:
        # A defect of this program, not of the input: the one case in which the stack helps whoever reads the log.
        traceback.print_exc()
        return _fail(ScienceError(f"{type(error).__name__}: {error}", next_step="report this defect with the log"))
    return 0


def _fail(error: ScienceError, *, code: int = 1) -> int:
    with contextlib.suppress(OSError):  # the terminal may be gone; the exit code tells it, too
        click.echo(error.sentence, err=True)
    target = os.environ.get(ERROR_FILE)
    if target:
        fields = {
            "type": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "next_step": error.next_step,
        }
        try:
            _write_atomically(Path(target), json.dumps(fields, ensure_ascii=False) + "\n")
        except OSError as problem:
            click.echo(f"The error file {target!r} cannot be written: {problem.strerror}.", err=True)
    return code


def _write_atomically(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".error-", dir=path.parent)
    try:
        # Names of files need not be UTF-8: what remains of their bytes becomes an escape of JSON.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
