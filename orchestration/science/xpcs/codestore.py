"""Where machine code of loops is kept between runs: beside their source, as Python keeps its bytecode.

The environment variable ``NUMBA_CACHE_DIR`` names another folder. Where the source lies in a folder that cannot be
written, it is the user's own for such things. What is there counts for no other loop, processor or version of numba
than those it was made for.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestration.science.xpcs.machinecode import Code, Kinds, processor

_FORMAT = 1
"""Of the files here, and of `Code`: one of another kind is never looked at."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Of the code of one loop, for some kinds of arguments, on this processor."""

    name: str
    source: Path

    @classmethod
    def of(cls, function: Callable[..., Any], kinds: Kinds) -> Place:
        what = hashlib.blake2b(f"{kinds} {_surroundings()}".encode(), digest_size=12).hexdigest()
        name = f"{function.__module__}.{function.__qualname__}-{sys.implementation.cache_tag}-{what}.loop"
        return cls(name, Path(function.__code__.co_filename))

    def load(self, fingerprint: str) -> Code | None:
        """The code, if there is any of a loop with this fingerprint; what is damaged is none."""
        for folder in self._folders():
            try:
                digest, _, rest = (folder / self.name).read_bytes().partition(b"\n")
            except OSError:
                continue
            if digest == _digest(rest):
                about, _, machine_code = rest.partition(b"\n")
                found = json.loads(about)
                if found.pop("fingerprint") == fingerprint:
                    symbol = found.pop("symbol")
                    return Code(
                        symbol=symbol, machine_code=machine_code, **{name: tuple(found[name]) for name in found}
                    )
        return None

    def save(self, fingerprint: str, code: Code) -> None:
        about = asdict(code) | {"fingerprint": fingerprint}
        machine_code = about.pop("machine_code")
        rest = json.dumps(about).encode() + b"\n" + machine_code
        problems = []
        for folder in self._folders():
            try:
                _write(folder / self.name, _digest(rest) + b"\n" + rest)
            except OSError as error:
                problems.append(f"{folder}: {error.strerror}")
            else:
                return
        _say_not_kept("; ".join(problems))

    def _folders(self) -> Iterator[Path]:
        if named := os.environ.get("NUMBA_CACHE_DIR"):
            yield Path(named)
            return
        yield self.source.parent / "__pycache__"
        with suppress(RuntimeError):  # who has no home has no such folder
            yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beamline" / "loops"


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


@functools.cache
def _surroundings() -> str:
    """What else code depends on."""
    settings = sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name not in {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS"}
    )
    return f"{_FORMAT} {_numba()} {processor()} {settings}"


def _numba() -> str:
    """Which one it is; what reads the papers of packages, as what imports it, takes longer than a correlation."""
    found = importlib.util.find_spec("numba")
    if found is None or found.origin is None:
        raise ImportError("numba is not installed. Next: install this program anew.")
    return hashlib.blake2b(Path(found.origin).with_name("_version.py").read_bytes()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """All of it, or nothing: another process may write the same, or read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    written = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        written.chmod(0o644)
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


@functools.cache
def _say_not_kept(why: str) -> None:
    logger.warning(
        "compiled loops cannot be kept, and each run will take half a minute longer (%s). "
        "Next: let NUMBA_CACHE_DIR name a folder that can be written.",
        why,
    )
