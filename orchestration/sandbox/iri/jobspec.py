"""A job as it is asked for, in the words of PSI/J, and the script that the scheduler gets for it."""

from __future__ import annotations

import re
import shlex
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from orchestration.sandbox.iri.calls import Text

Count = Annotated[StrictInt, Field(ge=1)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class VolumeMount(_Part):
    source: Text
    target: Text
    read_only: StrictBool = True


class Container(_Part):
    image: Text
    volume_mounts: list[VolumeMount] = []


class Resources(_Part):
    node_count: Count | None = None
    process_count: Count | None = None
    processes_per_node: Count | None = None
    cpu_cores_per_process: Count | None = None
    gpu_cores_per_process: Count | None = None
    exclusive_node_use: StrictBool = True
    memory: Count | None = None


class Attributes(_Part):
    duration: Count | None = None
    queue_name: Text | None = None
    account: Text | None = None
    reservation_id: Text | None = None
    custom_attributes: dict[str, str] = {}


class JobSpec(BaseModel):
    model_config = ConfigDict(extra="forbid")

    executable: Text | None = None
    container: Container | None = None
    arguments: list[str] = []
    directory: Text | None = None
    name: Text | None = None
    inherit_environment: StrictBool = True
    environment: dict[Variable, str] = {}
    stdin_path: Text | None = None
    stdout_path: Text | None = None
    stderr_path: Text | None = None
    resources: Resources | None = None
    attributes: Attributes | None = None
    pre_launch: Text | None = None
    post_launch: Text | None = None
    launcher: Text | None = None

    @property
    def account(self) -> str:
        return (self.attributes and self.attributes.account) or ""

    @property
    def nodes(self) -> int:
        return (self.resources and self.resources.node_count) or 1


def script(spec: JobSpec, *, account: str) -> str:
    """What sbatch gets. The words of the request are quoted; `pre_launch` and `post_launch` are shell by intent.

    Everything that must not be read as a directive stays out of the directives.
    """
    attributes = spec.attributes or Attributes()
    lines = [
        "#!/bin/bash",
        f"#SBATCH -J {_name(spec)}",
        f"#SBATCH -A {account}",
        "#SBATCH -q regular",
        "#SBATCH -C cpu",
        f"#SBATCH -N {spec.nodes}",
        f"#SBATCH -t {_time(attributes.duration or 3600)}",
        "#SBATCH -o /dev/null",
        "#SBATCH -e /dev/null",
    ]
    return "\n".join([*lines, *_body(spec)]) + "\n"


def _name(spec: JobSpec) -> str:
    """That of the request where it can stand in a directive."""
    return spec.name if spec.name and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", spec.name) else "iri"


def _body(spec: JobSpec) -> list[str]:
    found = [f"cd -- {shlex.quote(spec.directory)} || exit 1"] if spec.directory else []
    found += [f"exec >>{shlex.quote(spec.stdout_path)} || exit 1"] if spec.stdout_path else []
    found += [f"exec 2>>{shlex.quote(spec.stderr_path)} || exit 1"] if spec.stderr_path else []
    found += [spec.pre_launch] if spec.pre_launch else []
    stdin = shlex.quote(spec.stdin_path or "/dev/null")
    launch = f"{shlex.join(_command(spec))} <{stdin}"
    if not spec.post_launch:
        return [*found, f"exec -- {launch}"]
    return [*found, launch, "code=$?", spec.post_launch, 'exit "$code"']


def _command(spec: JobSpec) -> list[str]:
    clean = [] if spec.inherit_environment else ["-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/"]
    assigned = [f"{name}={value}" for name, value in spec.environment.items()]
    before = ["env", *clean, *assigned] if clean or assigned else []
    inside = (
        [] if spec.container is None else ["podman-hpc", "run", "--rm", *_volumes(spec.container), spec.container.image]
    )
    launcher = shlex.split(spec.launcher) if spec.launcher else []
    return [*before, *launcher, *inside, *([spec.executable] if spec.executable else []), *spec.arguments]


def _volumes(container: Container) -> list[str]:
    pairs = [f"{each.source}:{each.target}{':ro' if each.read_only else ''}" for each in container.volume_mounts]
    return [word for pair in pairs for word in ("--volume", pair)]


def _time(seconds: int) -> str:
    """As days-hours:minutes:seconds."""
    days, rest = divmod(seconds, 86_400)
    return f"{days}-{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
