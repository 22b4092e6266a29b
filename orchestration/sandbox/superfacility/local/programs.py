"""The programs that jobs and commands find on their PATH before those of the system."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestration.sandbox.superfacility.local import hpss, shims


def install(folder: Path, *, images: Sequence[str], archive: Path) -> Path:
    """Write them all, anew each time; the directory in which they are. hsi and htar store in `archive`."""
    folder.mkdir(parents=True, exist_ok=True)
    archive.mkdir(parents=True, exist_ok=True)
    for name in shims.NAMES:
        _write(folder, name, shims.__file__, shims.IMAGES, " ".join(images))
    for name in hpss.NAMES:
        _write(folder, name, hpss.__file__, hpss.ROOT, str(archive))
    return folder


def _write(folder: Path, name: str, program: str, variable: str, value: str) -> None:
    command = shlex.join([sys.executable, "-I", "-S", program, name])
    part = folder / f".{name}.part"
    part.write_text(f'#!/bin/sh\n{variable}={shlex.quote(value)}\nexport {variable}\nexec {command} "$@"\n')
    part.chmod(0o755)
    part.replace(folder / name)
