"""How things look in a terminal: lines that are never cut, so that a path can be copied and a pipe loses nothing."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from orchestration import times
from orchestration.errors import OrchestrationError

Cell: TypeAlias = str | Text

STYLES = {
    "completed": "green",
    "succeeded": "green",
    "running": "cyan",
    "submitted": "cyan",
    "planned": "cyan",
    "failed": "bold red",
    "cancelling": "yellow",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "expired": "dim",
    "deleted": "dim",
}
HEAD = "bold"
GAP = "  "


def terminal(*, err: bool = False) -> Console:
    """Styles come from this module alone: numbers and paths keep the colour of their line."""
    return Console(stderr=err, highlight=False)


def write(console: Console, lines: Sequence[Cell]) -> None:
    for line in lines:
        console.print(Text(line) if isinstance(line, str) else line, soft_wrap=True)


def columns(rows: Sequence[Sequence[Cell]], *, right: Collection[int] = (), indent: str = "") -> list[Text]:
    """Rows as lines with aligned cells; the last cell of a row may be as long as it likes."""
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    count = max((len(row) for row in cells), default=0)
    widths = [max((row[index].cell_len for row in cells if index < len(row)), default=0) for index in range(count)]
    lines = []
    for row in cells:
        line = Text(indent)
        for index, cell in enumerate(row):
            space = " " * (widths[index] - cell.cell_len)
            line.append_text(Text(space) + cell if index in right else cell + Text(space))
            line.append(GAP)
        line.rstrip()
        lines.append(line)
    return lines


def heading(*names: str) -> list[Cell]:
    return [Text(name, style=HEAD) for name in names]


def state(name: str) -> Text:
    return Text(name, style=STYLES.get(name, ""))


def error_block(error: OrchestrationError, console: Console) -> list[Text]:
    """What, where and what next, each on lines of its own."""
    lines = _wrapped(f"{type(error).__name__}: {error.what}", "", "  ", console, style="bold red")
    if error.where:
        lines += _wrapped(error.where, "  where  ", " " * 9, console)
    return lines + _wrapped(error.next_step, "  next   ", " " * 9, console)


def _wrapped(text: str, first: str, others: str, console: Console, *, style: str = "") -> list[Text]:
    """Between words where a person looks at it; whole in a pipe."""
    if not console.is_terminal:
        return [Text(first + text, style=style)]
    found = textwrap.wrap(
        text,
        width=max(console.width, 20),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [Text(line, style=style) for line in found]


def clock(seconds: float | None) -> str:
    return "" if seconds is None else times.clock(seconds)


def day(seconds: float | None) -> str:
    return "" if seconds is None else times.day(seconds)


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def program() -> str:
    """How this program is called here, for hints that can be copied."""
    if shutil.which("beamline"):
        return "beamline"
    here = Path(sys.argv[0])
    if here.name != "beamline":
        return "python -m orchestration.cli"
    path = here.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
