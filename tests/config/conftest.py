"""A clean environment and an empty working directory for every test of the settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OURS = ("BEAMLINE_", "GLOBUS_", "SCICAT_", "PATH_NERSC_")

WriteFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing set, nothing to read in the working directory; what a test sets through files is undone."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


@pytest.fixture
def write_config(tmp_path: Path) -> WriteFile:
    """Write a settings file and return its path."""

    def write(text: str, *, name: str = "config.yml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parents[2]
