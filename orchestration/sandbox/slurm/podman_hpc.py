"""What stands in for podman-hpc where jobs run: containers by bubblewrap on the programs of this machine.

Copied into the facility and run there as a program of its own, so it imports nothing of this project. An image is an
entry of `images.json` beside its directory: a pattern for its names, and the directories of this machine that it shows
besides those of the system. As with podman: a name that no pattern matches exits with 125, so does a volume that is
not there; the process is root inside; only what `-e` names reaches its environment; and nothing of the facility's
file systems is seen but the volumes. Without bubblewrap, a container is refused unless its volumes have the same names
inside as outside: then its program runs directly.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

WITH_VALUE = {
    *("-v", "--volume", "-e", "--env", "-w", "--workdir", "--name", "--mount", "--user", "-u", "--entrypoint"),
    *("--network", "--net", "--shm-size", "--ulimit", "-p", "--publish", "--device", "--gpus", "--env-file"),
    *("--annotation", "--security-opt", "--label", "--cpus", "--memory", "--pull", "--userns"),
}
SYSTEM = ("usr", "etc", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "var", "sys")
NOTHING_TO_DO = ("pull", "migrate", "images", "rmi", "rmsqi")
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
REFUSED = 125
"""The exit code of podman for its own errors, apart from those of the program in the container."""


class Refusal(Exception):
    pass


@dataclass(kw_only=True)
class Run:
    image: str = ""
    command: list[str] = field(default_factory=list)
    volumes: list[tuple[str, str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = ""


@dataclass(frozen=True, kw_only=True)
class Image:
    search: tuple[str, ...]
    visible: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


def parse(words: list[str]) -> Run:
    """The words after ``run``. Raises: Refusal."""
    run, rest, entrypoint = Run(), list(words), ""
    while rest and rest[0].startswith("-"):
        option, assigned, value = rest.pop(0).partition("=")
        if option not in WITH_VALUE:
            continue
        if not assigned:
            if not rest:
                raise Refusal(f"flag needs an argument: {option}")
            value = rest.pop(0)
        if option in ("-v", "--volume"):
            run.volumes.append(volume(value))
        elif option in ("-e", "--env"):
            name, given, content = value.partition("=")
            run.environment[name] = content if given else os.environ.get(name, "")
        elif option in ("-w", "--workdir"):
            run.directory = value
        elif option == "--entrypoint":
            entrypoint = value
    if not rest:
        raise Refusal("requires at least 1 arg(s), only received 0")
    run.image = rest.pop(0)
    run.command = [entrypoint, *rest] if entrypoint else rest
    return run


def volume(value: str) -> tuple[str, str, str]:
    source, _, rest = value.partition(":")
    target, _, options = rest.partition(":")
    if not target.startswith("/"):
        raise Refusal(f"invalid container path {target!r}, must be an absolute path")
    if not Path(source).exists():
        raise Refusal(f"statfs {source}: no such file or directory")
    return os.path.realpath(source), target, options


def image_called(name: str) -> Image:
    registry = Path(__file__).resolve().parent.parent / "etc" / "images.json"
    for pattern, entry in json.loads(registry.read_text()).items():
        if fnmatch.fnmatchcase(name, pattern):
            return Image(
                search=tuple(entry["search"]),
                visible=tuple(entry["visible"]),
                environment=tuple(entry["environment"].items()),
            )
    raise Refusal(f"{name}: image not known")


def sandboxed(run: Run, image: Image) -> list[str]:
    words = ["bwrap", "--die-with-parent", "--unshare-pid", "--as-pid-1", "--unshare-user", "--uid", "0", "--gid", "0"]
    words += ["--clearenv", "--tmpfs", "/"]
    for path in (Path("/", name) for name in SYSTEM):
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/root"]  # noqa: S108 -- the container's
    for shown in image.visible:
        words += ["--ro-bind", shown, shown]
    # Those above before those below, as podman does: a volume is not hidden by another that contains it.
    for source, target, options in sorted(run.volumes, key=lambda one: one[1].rstrip("/").count("/")):
        words += ["--ro-bind" if "ro" in options.split(",") else "--bind", source, target]
    for name, value in environment(run, image).items():
        words += ["--setenv", name, value]
    where = run.directory or "/"
    return [*words, "--dir", where, "--chdir", where, "--", *run.command]


def environment(run: Run, image: Image) -> dict[str, str]:
    search = ":".join((*image.search, "/usr/local/bin", "/usr/bin", "/bin"))
    return {"PATH": search, "HOME": "/root", "container": "podman", **dict(image.environment), **run.environment}


def execute(run: Run, image: Image) -> int:
    """The exit code of the program in its container. Raises: Refusal."""
    if not run.command:
        raise Refusal("no command specified in command line or image")
    if not shutil.which("bwrap"):
        directly(run, image)
    return contained(sandboxed(run, image))


def directly(run: Run, image: Image) -> NoReturn:
    """Become the program, in no container. Raises: Refusal."""
    elsewhere = [target for source, target, _ in run.volumes if source != os.path.realpath(target)]
    if elsewhere:
        raise Refusal(f"without bubblewrap nothing can be mounted at {', '.join(elsewhere)}: install bubblewrap")
    os.chdir(run.directory or "/")
    os.execvpe(run.command[0], run.command, environment(run, image))  # noqa: S606


def contained(words: list[str]) -> int:
    """Run bwrap, and pass on to its program what this process is told: Slurm tells nobody but its own children.

    The program is the first of its namespace, as in podman: one without a handler of its own ignores a SIGTERM, and
    everything that it has started ends with it.
    """
    arriving: list[int] = []
    program: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not program:
            arriving.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(program[0], number)

    for number in FORWARDED:
        signal.signal(number, pass_on)
    reading, writing = os.pipe()
    told = [words[0], "--info-fd", str(writing), *words[1:]]
    child = subprocess.Popen(told, pass_fds=[writing], process_group=0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    if text:
        program.append(int(json.loads(text)["child-pid"]))
    for early in arriving:
        pass_on(early, None)
    code = child.wait()
    return code if code >= 0 else 128 - code


def main(words: list[str]) -> int:
    if words and words[0] in NOTHING_TO_DO:
        return 0
    try:
        if not words or words[0] != "run":
            raise Refusal(f"unrecognized command `podman-hpc {' '.join(words[:1])}`")
        run = parse(words[1:])
        return execute(run, image_called(run.image))
    except Refusal as refusal:
        sys.stderr.write(f"Error: {refusal}\n")
        return REFUSED
    except FileNotFoundError as error:
        sys.stderr.write(
            f"Error: crun: executable file `{error.filename}` not found in $PATH: No such file or directory\n"
        )
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
