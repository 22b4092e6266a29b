"""What the documentation says to type exists, and what it points to is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from orchestration.cli import beamline
from orchestration.science.cli import science

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([PROJECT / "README.md", *PROJECT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(?:console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:\.venv/bin/)?(?:beamline|make|python3?|prefect) [^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"<[^<>]*>")


def name(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def commands(page: Path) -> Iterator[list[str]]:
    """Every command line of a page as words, without prompts, comments and pipes."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    for line in [*lines, *(found.replace("\n", " ") for found in INLINE.findall(text))]:
        bare = PLACEHOLDER.sub("something", line.removeprefix("$ "))
        if re.match(r"(\.venv/bin/)?(beamline|make|python3?|prefect) ", bare):
            words = shlex.split(re.split(r" [|>&;] ?| && ", bare)[0], comments=True)
            yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def every_command() -> list[tuple[str, list[str]]]:
    return [(name(page), words) for page in PAGES for words in commands(page)]


def scripts(module: str) -> ModuleType:
    sys.path.insert(0, str(PROJECT / "scripts"))
    try:
        return import_module(module)
    finally:
        sys.path.remove(str(PROJECT / "scripts"))


def resolved(group: click.Command, words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words begin with, and the words that are left for it."""
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        found = group.get_command(click.Context(group), words[0])
        assert found is not None, f"there is no command {words[0]}"
        group, words = found, words[1:]
    return group, words


def check_arguments(group: click.Command, words: list[str]) -> None:
    command, rest = resolved(group, words)
    if rest and rest[0] != "--help" and not rest[0].startswith(("...", "[")):
        command.make_context("documented", rest, resilient_parsing=False)
    elif rest != ["--help"]:
        assert CliRunner().invoke(command, ["--help"]).exit_code == 0


def check_python(words: list[str]) -> None:
    assert words[0] == "-m" or words[0].startswith("scripts/"), words
    if words[0].startswith("scripts/"):
        assert (PROJECT / words[0]).is_file()
        main = getattr(scripts(Path(words[0]).stem), "main", None)
        if isinstance(main, click.Command):
            check_arguments(main, words[1:])
    elif words[1] == "orchestration.science":
        check_arguments(science, words[2:])
    elif words[1].startswith("orchestration"):
        # The how-to for a new beamline, and a placeholder, name modules that the reader makes.
        known = find_spec(words[1]) if "bl733" not in words[1] and "something" not in words[1] else words[1]
        assert known is not None, words[1]


@pytest.mark.parametrize(("page", "words"), every_command(), ids=lambda value: str(value)[:60])
def test_what_is_typed_exists(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    program, rest = words[0], words[1:]
    if program == "beamline":
        check_arguments(beamline, rest)
    elif program == "make":
        targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
        assert rest[0] in targets or "=" in rest[0]
    elif program.startswith("python"):
        check_python(rest)
    else:
        assert rest[:2] in (["worker", "start"], ["server", "start"])


def test_the_pages_have_commands() -> None:
    assert len(every_command()) > 40


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", link):
            target = (page.parent / link.partition("#")[0]).resolve()
            assert target.exists(), link
            assert target.is_relative_to(PROJECT), link


@pytest.mark.parametrize("page", [page for page in PAGES if "docs" in page.parts], ids=name)
def test_no_page_is_an_orphan(page: Path) -> None:
    linked = {
        (other.parent / link.partition("#")[0]).resolve()
        for other in PAGES
        for link in LINK.findall(other.read_text(encoding="utf-8"))
    }
    assert page in linked or page.parent in linked


def test_the_reference_says_what_the_program_says() -> None:
    """In a process of its own: a command remembers how its help was first asked for."""
    script = [sys.executable, str(PROJECT / "scripts" / "write_reference.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_error_is_in_the_reference() -> None:
    from orchestration import errors

    page = (PROJECT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    groups = {"OrchestrationError", "InvalidInput", "PolicyRefused", "OperationFailed", "TransferFailed", "LedgerError"}
    known = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.OrchestrationError)
    }
    assert {error for error in known - groups if f"`{error}`" not in page} == set()


def test_every_deployment_is_in_the_reference() -> None:
    from orchestration.flows import catalogue

    page = (PROJECT / "docs" / "reference" / "flows.md").read_text(encoding="utf-8")
    for beamline_id in catalogue.beamlines():
        for spec in catalogue.of_beamline(beamline_id).deployments:
            assert f"`{spec.full_name}`" in page or spec.flow_name.startswith("prune_"), spec.full_name


def test_every_script_is_in_the_reference() -> None:
    page = (PROJECT / "docs" / "reference" / "scripts.md").read_text(encoding="utf-8")
    there = {path.name for path in (PROJECT / "scripts").iterdir() if path.suffix in (".py", ".sh")}
    assert {script for script in there if not re.search(rf"^\| `{re.escape(script)}[ `]", page, re.MULTILINE)} == set()


def test_every_command_has_json_for_programs() -> None:
    for path, command in scripts("write_reference").walk(beamline, "beamline"):
        # The schema is JSON anyway.
        assert path == "beamline config schema" or any(option.name == "as_json" for option in command.params), path
