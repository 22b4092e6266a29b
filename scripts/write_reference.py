"""Writes the pages of the reference that the program itself knows best: ``python scripts/write_reference.py``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import click

from orchestration.cli import beamline
from orchestration.science.tomography.parameters import Parameters, kinds

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"
WIDTH = 100

COMMANDS = """\
# Commands

What `beamline --help` says, command by command. Written by `scripts/write_reference.py`.

Every command that shows something also takes `--json`, and then writes one JSON object (`scans`, and `batches` without
a BATCH: a list) to standard output and everything else to standard error. Exit codes: 0, done; 1, it did not do its
work, and one sentence on standard error says what, where and what next; 2, it was called wrongly; 130, interrupted with
Ctrl-C (a run that was followed goes on).

Moments are in local time with its zone on pages, and in JSON in UTC as ISO 8601: `2026-12-24T16:00:00.000+00:00`.

Settings come from `$BEAMLINE_CONFIG`, or `config.yml` in the working directory; variables that are not set come from
`$BEAMLINE_ENV_FILE`, or `.env`, or else `.sandbox/env` there. So commands in a directory with a sandbox use it.
"""

RECONSTRUCTION = """\
# Reconstruction parameters

Of `python -m orchestration.science tomography reconstruct`, where `ring_sigma` is `--ring-sigma`; of
`beamline rerun tooth --set ring_sigma=5`; and of the parameter `parameters` of the flows. Written by
`scripts/write_reference.py`.

| name | default | limits | meaning |
|---|---|---|---|
"""


def commands() -> str:
    return COMMANDS + "".join(_section(path, command) for path, command in walk(beamline, "beamline"))


def reconstruction() -> str:
    return RECONSTRUCTION + "".join(map(_row, dataclasses.fields(Parameters)))


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """All commands below this one that are not only groups of others, with what is typed for each."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path, command
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in sorted(command.list_commands(context)):
        found = command.get_command(context, name)
        if found is not None:
            yield from walk(found, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    context = click.Context(
        command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=["-h", "--help"]
    )
    return f"\n## `{path}`\n\n```text\n{command.get_help(context).strip()}\n```\n"


def _row(item: dataclasses.Field[object]) -> str:
    low, high = item.metadata["low"], item.metadata["high"]
    _, choices = kinds(item)
    limits = ", ".join(f"`{choice}`" for choice in choices)
    if low is not None:
        limits = f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
    default = "" if item.default is None else f"`{str(item.default).lower()}`"
    return f"| `{item.name}` | {default} | {limits} | {item.metadata['help']} |\n"


def tidy(text: str) -> str:
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; end with 1 if a page says something else.")
def main(*, check: bool) -> None:
    """Write the pages of the reference that the program itself knows best."""
    for name, text in {"commands.md": commands(), "reconstruction.md": reconstruction()}.items():
        page = REFERENCE / name
        if not check:
            page.write_text(tidy(text), encoding="utf-8")
            click.echo(str(page))
        elif page.read_text(encoding="utf-8") != tidy(text):
            raise click.ClickException(f"{page} is out of date: run python scripts/write_reference.py")


if __name__ == "__main__":
    main()
