"""The programs that jobs and commands find on their PATH before those of the system."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestration.sandbox.superfacility.local import shims


def install(folder: Path, *, images: Sequence[str]) -> Path:
    """Write them all, anew each time; the directory in which they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in shims.NAMES:
        command = shlex.join([sys.executable, "-I", "-S", shims.__file__, name])
        text = (
            f'#!/bin/sh\n{shims.IMAGES}={shlex.quote(" ".join(images))}\nexport {shims.IMAGES}\nexec {command} "$@"\n'
        )
        part = folder / f".{name}.part"
        part.write_text(text)
        part.chmod(0o755)
        part.replace(folder / name)
    return folder
