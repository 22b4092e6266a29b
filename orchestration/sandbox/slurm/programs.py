"""The programs of a facility: its interpreter, and the stand-in for podman-hpc."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

from orchestration.errors import ConfigError
from orchestration.sandbox.slurm import podman_hpc
from orchestration.sandbox.slurm.files import Files


@dataclass(frozen=True, kw_only=True)
class Image:
    """A container image, as far as the stand-in for podman-hpc knows one: an environment on this machine.

    `visible` are the directories that its programs need besides those of the system.
    """

    search: tuple[str, ...] = ()
    visible: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


_WHERE = """
import importlib.util, json, sys
spec = importlib.util.find_spec("orchestration")
found = [sys.prefix, sys.base_prefix, *sys.path]
if spec and spec.submodule_search_locations:
    found += spec.submodule_search_locations
print(json.dumps(found))
"""


def python_image(python: Path) -> Image:
    """The environment of an interpreter as a container image: what it needs to be seen, and nothing else.

    Raises:
        ConfigError: if that interpreter does not run.
    """
    answer = subprocess.run([python, "-I", "-c", _WHERE], capture_output=True, text=True, check=False, cwd="/")
    if answer.returncode != 0:
        raise ConfigError(f"the interpreter for jobs does not run: {answer.stderr.strip()[-300:]}", where=str(python))
    found = [Path(one) for one in json.loads(answer.stdout) if one]
    folders = sorted({one for one in found if one.is_dir() and not one.is_relative_to("/usr")})
    outermost = [one for one in folders if not any(other in one.parents for other in folders)]
    return Image(search=(str(python.parent),), visible=tuple(map(str, outermost)))


def install(files: Files, images: dict[str, Image]) -> None:
    """Write podman-hpc and the images that it knows, by patterns of their names."""
    shim = files.programs / "podman-hpc"
    source = find_spec(podman_hpc.__name__)
    if source is None or source.origin is None:  # pragma: no cover -- it has just been imported
        raise ConfigError("the program of podman-hpc's stand-in was not found", where=podman_hpc.__name__)
    shim.write_text(f"#!{sys.executable} -IS\n{Path(source.origin).read_text()}")
    shim.chmod(0o755)
    registry = {pattern: asdict(image) for pattern, image in images.items()}
    (files.settings / "images.json").write_text(json.dumps(registry, indent=2))


def shown(image: Image) -> list[Path]:
    """Directories that must be seen at the facility: those of the image, and of this program."""
    return [Path(path) for one in (python_image(Path(sys.executable)), image) for path in one.visible]
