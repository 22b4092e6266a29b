"""What squeue and sacct print, as rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orchestration.sandbox.superfacility.scheduler import JobRow

UNFINISHED = {"PENDING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED", "CONFIGURING", "COMPLETING"}


def parse(text: str, *, separator: str, submitted: str) -> list[JobRow]:
    """The rows below a line of headers, by their names in lower case; of columns with the same name, the last.

    `submitted` is the name of the column with the time of submission.
    """
    lines = iter(text.splitlines())
    headers = next(lines, "").lower().split(separator)
    rows = [dict(zip(headers, cells, strict=True)) for cells in _cells(lines, len(headers), separator)]
    return [_row(row, submitted) for row in rows]


def _cells(lines: Iterator[str], count: int, separator: str) -> Iterator[list[str]]:
    """A value may hold the end of a line (the command of a submission does): a row ends when it has all its cells.

    One that holds the separator makes a row that cannot be told apart; what is too much then belongs to its last cell.
    """
    held = ""
    for line in lines:
        held = f"{held}\n{line}" if held else line
        cells = held.split(separator, count - 1)
        if len(cells) == count:
            held = ""
            yield cells


def _row(fields: dict[str, str], submitted: str) -> JobRow:
    state = fields.get("state", "").split(" ")[0]
    end = _time(fields.get("end", ""))
    return JobRow(
        fields=fields,
        submitted=_time(fields.get(submitted, "")) or 0.0,
        ended=end if state and state not in UNFINISHED else None,
    )


def _time(text: str) -> float | None:
    """Of what Slurm prints in local time; None for ``Unknown``, ``N/A`` and the like."""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        return None
