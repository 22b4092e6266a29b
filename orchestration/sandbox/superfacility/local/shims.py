"""What jobs call at the facility, done by this machine: ``python -I -S shims.py PROGRAM ARGUMENTS``.

srun starts one task; podman-hpc, shifter and apptainer run the command itself, in the file system as it is: a volume
must be called by its own path. Standard library only, and none of this project: it stands before every step of a job.
"""

from __future__ import annotations

import fnmatch
import os
import sys

IMAGES = "SANDBOX_IMAGES"
"""Patterns of the images that exist, with spaces between them."""

_NO_IMAGE = 125
_SRUN_VALUED = {
    "-A", "-B", "-b", "-C", "-c", "-D", "-d", "-e", "-F", "-G", "-i", "-J", "-L", "-M", "-m", "-N", "-n", "-o", "-P",
    "-p", "-q", "-r", "-S", "-T", "-t", "-w", "-x", "--account", "--bcast", "--chdir", "--comment", "--constraint",
    "--cpu-bind", "--cpu-freq", "--cpus-per-gpu", "--cpus-per-task", "--distribution", "--error", "--exclude",
    "--export", "--gpu-bind", "--gpus", "--gpus-per-node", "--gpus-per-task", "--gres", "--hint", "--image", "--input",
    "--job-name", "--jobid", "--kill-on-bad-exit", "--mem", "--mem-bind", "--mem-per-cpu", "--mem-per-gpu", "--module",
    "--mpi", "--network", "--nodelist", "--nodes", "--ntasks", "--ntasks-per-core", "--ntasks-per-gpu",
    "--ntasks-per-node", "--open-mode", "--output", "--partition", "--qos", "--relative", "--reservation", "--signal",
    "--threads", "--threads-per-core", "--time", "--volume", "--wait",
}  # fmt: skip
_SRUN_ONLY_JOINED = {"--kill-on-bad-exit"}
_CONTAINER_VALUED = {
    "podman-hpc": {
        "-e", "-p", "-u", "-v", "-w", "-h", "--annotation", "--device", "--entrypoint", "--env", "--env-file", "--gpus",
        "--hostname", "--ipc", "--label", "--mount", "--name", "--net", "--network", "--pid", "--platform", "--publish",
        "--pull", "--security-opt", "--shm-size", "--tmpfs", "--ulimit", "--user", "--userns", "--volume", "--workdir",
    },
    "shifter": {"-e", "-i", "-m", "-V", "-w", "--entrypoint", "--env", "--env-file", "--image", "--module", "--volume",
        "--workdir"},
    "apptainer": {"-B", "-H", "-W", "--bind", "--env", "--env-file", "--home", "--mount", "--overlay", "--pwd",
        "--workdir", "--cwd"},
}  # fmt: skip
NAMES = ("srun", "podman-hpc", "shifter", "apptainer", "singularity", "module")


def main(name: str, words: list[str]) -> int:
    if name == "module":
        return 0
    if name == "srun":
        return _srun(words)
    engine = "apptainer" if name == "singularity" else name
    return _container(engine, words)


def _srun(words: list[str]) -> int:
    options, command = _split(words, _SRUN_VALUED - _SRUN_ONLY_JOINED)
    if not command:
        return _fail("srun: fatal: No command given to execute.", 1)
    directory = _last(options, "--chdir", "-D")
    if directory:
        os.chdir(directory)
    os.environ.update({"SLURM_STEP_ID": "0", "SLURM_STEPID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    return _become(command, "slurmstepd: error: execve()", missing=2)


def _container(engine: str, words: list[str]) -> int:
    if engine != "shifter":
        if not words or words[0] not in {"run", "exec"}:
            return 0  # pulling and migrating images is done with here
        words = words[1:]
    options, rest = _split(words, _CONTAINER_VALUED[engine])
    image = _last(options, "--image", "-i") if engine == "shifter" else ""
    if not image and rest:
        image, rest = rest[0], rest[1:]
    if not _exists(image):
        return _fail(f"Error: {image}: image not known", _NO_IMAGE)
    for option, value in options:
        if option in {"-v", "-V", "-B", "--volume", "--bind"}:
            for volume in value.split(";" if engine == "shifter" else ","):
                source = volume.split(":")[0]
                if source.startswith("/") and not os.path.exists(source):
                    return _fail(f"Error: statfs {source}: no such file or directory", _NO_IMAGE)
        elif option in {"-e", "--env"}:
            variable, equals, text = value.partition("=")
            os.environ[variable] = text if equals else os.environ.get(variable, "")
    directory = _last(options, "-w", "-W", "--workdir", "--pwd", "--cwd")
    if directory and os.path.isdir(directory):
        os.chdir(directory)
    entry = _last(options, "--entrypoint")
    command = [entry, *rest] if entry else rest
    if not command:
        return 0
    return _become(command, "Error: crun", missing=127)


def _split(words: list[str], valued: set[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options with their values, and what comes after them."""
    options: list[tuple[str, str]] = []
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        at += 1
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(word) > 2:  # -n4
            name, equals, value = word[:2], "=", word[2:].removeprefix("=")
        if not equals and name in valued and at < len(words):
            value = words[at]
            at += 1
        options.append((name, value))
    return options, words[at:]


def _last(options: list[tuple[str, str]], *names: str) -> str:
    found = [value for name, value in options if name in names]
    return found[-1] if found else ""


def _exists(image: str) -> bool:
    plain = image.removeprefix("docker://").removeprefix("docker:")
    patterns = os.environ.get(IMAGES, "*").split()
    return bool(plain) and any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns)


def _become(command: list[str], complaint: str, *, missing: int) -> int:
    try:
        os.execvp(command[0], command)  # noqa: S606 -- what it is for
    except OSError as error:
        return _fail(f"{complaint}: {command[0]}: {error.strerror}", missing if error.errno == 2 else 126)


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
