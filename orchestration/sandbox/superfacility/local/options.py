"""The options of sbatch, read from the ``#SBATCH`` lines of a script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from orchestration.sandbox.superfacility.scheduler import Refused

_VALUED = {
    "account": "A", "array": "a", "bb": "", "bbf": "", "begin": "b", "chdir": "D", "cluster-constraint": "",
    "clusters": "M", "comment": "", "constraint": "C", "container": "", "core-spec": "S", "cores-per-socket": "",
    "cpu-freq": "", "cpus-per-gpu": "", "cpus-per-task": "c", "deadline": "", "delay-boot": "", "dependency": "d",
    "distribution": "m", "error": "e", "exclude": "x", "export": "", "export-file": "", "extra-node-info": "B",
    "gid": "", "gpu-bind": "", "gpu-freq": "", "gpus": "G", "gpus-per-node": "", "gpus-per-socket": "",
    "gpus-per-task": "", "gres": "", "gres-flags": "", "hint": "", "image": "", "input": "i", "job-name": "J",
    "licenses": "L", "mail-type": "", "mail-user": "", "mcs-label": "", "mem": "", "mem-bind": "", "mem-per-cpu": "",
    "mem-per-gpu": "", "mincpus": "", "module": "", "network": "", "nodefile": "F", "nodelist": "w", "nodes": "N",
    "ntasks": "n", "ntasks-per-core": "", "ntasks-per-gpu": "", "ntasks-per-node": "", "ntasks-per-socket": "",
    "open-mode": "", "output": "o", "partition": "p", "power": "", "priority": "", "profile": "", "qos": "q",
    "reservation": "", "signal": "", "sockets-per-node": "", "switches": "", "thread-spec": "",
    "threads-per-core": "", "time": "t", "time-min": "", "tmp": "", "tres-per-task": "", "uid": "", "volume": "V",
    "wckey": "", "wrap": "",
}  # fmt: skip
"""Options with a value, and their letters. ``image``, ``module`` and ``volume`` are Shifter's."""

_PLAIN = {
    "contiguous": "", "exclusive": "", "get-user-env": "", "hold": "H", "ignore-pbs": "", "kill-on-invalid-dep": "",
    "nice": "", "no-kill": "k", "no-requeue": "", "overcommit": "O", "oversubscribe": "s", "parsable": "",
    "propagate": "", "quiet": "Q", "reboot": "", "requeue": "", "spread-job": "", "test-only": "", "use-min-nodes": "",
    "verbose": "v", "wait": "W", "wait-all-nodes": "",
}  # fmt: skip
"""Options that stand alone, or have a value only after ``=``."""

_LETTERS = {letter: name for table in (_VALUED, _PLAIN) for name, letter in table.items() if letter}
_NAMES = (*_VALUED, *_PLAIN)
_PREFIX = "#SBATCH"
_USAGE = 'Try "sbatch --help" for more information'


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for; the values are as written."""

    values: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def number(self, name: str, default: int = 1) -> int:
        """A count; of a range (``2-4``) the smallest. Raises: Refused."""
        given = self.values.get(name)
        if given is None:
            return default
        found = re.fullmatch(r"(\d+)(-\d+)?", given)
        if not found or int(found[1]) < 1:
            raise Refused(f'sbatch: error: Invalid numeric value "{given}" for --{name}.\n')
        return int(found[1])

    def seconds(self, name: str) -> float | None:
        """A length of time. Raises: Refused."""
        given = self.values.get(name)
        if given is None:
            return None
        found = seconds(given)
        if found is None:
            raise Refused(f"sbatch: error: Invalid --{name} specification\n")
        return found


def read(script: str) -> Options:
    """From the lines before the first command.

    Raises:
        Refused: if this is no script, or an option is unknown or lacks its value.
    """
    if not script.strip():
        raise Refused("sbatch: error: Batch script is empty!\n")
    if not script.startswith("#!"):
        raise Refused(
            "sbatch: error: This does not look like a batch script.  The first\n"
            "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
            "sbatch: error: For instance: #!/bin/sh\n"
        )
    if "\r\n" in script:
        raise Refused(
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n"
            "sbatch: error: instead of expected UNIX line breaks (\\n).\n"
        )
    values: dict[str, str] = {}
    for line in _lines(script):
        values.update(_options(line))
    return Options(values=values)


def job_name(asked: Options, path: str) -> str:
    """The name that Slurm gives to the job of a script at this path; of one without a path, where that is empty."""
    return asked.text("job-name", PurePosixPath(path).name or "sbatch")


def seconds(text: str) -> float | None:
    """``minutes``, ``minutes:seconds``, ``h:m:s``, ``days-h``, ``days-h:m`` or ``days-h:m:s``; None for anything else.

    0 and ``UNLIMITED`` are no limit: infinity.
    """
    if text.upper() in {"UNLIMITED", "INFINITE"}:
        return float("inf")
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        return None
    days, *parts = (int(part) if part else 0 for part in found.groups())
    if found[1] is not None or found[4] is not None:
        hours, minutes, rest = parts
    else:
        hours, (minutes, rest) = 0, parts[:2]
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest or float("inf")


def _lines(script: str) -> Iterator[str]:
    """What follows ``#SBATCH`` in the lines before the first command."""
    for line in script.splitlines()[1:]:
        if line.startswith(_PREFIX):
            yield line.removeprefix(_PREFIX)
        elif line.strip() and not line.lstrip().startswith("#"):
            return


def _options(line: str) -> Iterator[tuple[str, str]]:
    """Of one line. Raises: Refused."""
    try:
        words = iter(shlex.split(line, comments=True))
    except ValueError as error:
        raise Refused(f"sbatch: error: {_PREFIX}{line}: {error}\n") from error
    for word in words:
        if word.startswith("--"):
            yield _long(word, words)
        elif word.startswith("-") and len(word) > 1:
            yield from _short(word[1:], words)
        else:
            raise Refused(f'sbatch: error: Invalid directive found in batch script: "{word}"\n')


def _long(word: str, rest: Iterator[str]) -> tuple[str, str]:
    given, equals, value = word[2:].partition("=")
    name = _whole(given)
    if equals or name in _PLAIN:
        return name, value
    return name, _value(f"option '--{name}' requires an argument", rest)


def _short(letters: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _LETTERS.get(letter)
        if name is None:
            raise Refused(f"sbatch: invalid option -- '{letter}'\n{_USAGE}\n")
        if name in _PLAIN:
            yield name, ""
        else:
            yield name, letters or _value(f"option requires an argument -- '{letter}'", rest)
            return


def _value(problem: str, rest: Iterator[str]) -> str:
    for word in rest:
        return word
    raise Refused(f"sbatch: {problem}\n{_USAGE}\n")


def _whole(given: str) -> str:
    """The name of an option, which may be shortened as long as it is the only one. Raises: Refused."""
    if given in _NAMES:
        return given
    found = [name for name in _NAMES if name.startswith(given)]
    if not found:
        raise Refused(f"sbatch: unrecognized option '--{given}'\n{_USAGE}\n")
    if len(found) > 1:
        choices = " ".join(f"'--{name}'" for name in found)
        raise Refused(f"sbatch: option '--{given}' is ambiguous; possibilities: {choices}\n{_USAGE}\n")
    return found[0]
