"""The folder of a Globus Compute endpoint: made from the files of this package and the values of a site."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestration.errors import ConfigError, UnknownName

ENVIRONMENT = "user_environment.yaml"
"""The values of the site, by name."""

CREDENTIALS = "credentials.env"
"""Lines ``GLOBUS_COMPUTE_CLIENT_ID=`` and ``GLOBUS_COMPUTE_CLIENT_SECRET=``, beside the folders of the endpoints."""

KEPT = ("config.yaml", ENVIRONMENT)
"""What a site may have edited. The other files are the package's, and become those of its version."""

_FILES = Path(__file__).parent
_SHARED = "common.j2"
_ENTRY = re.compile(r"^([A-Z][A-Z0-9_]*):(.*)$")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

_RUN = """#!/usr/bin/env bash
# Runs the daemon's command for endpoint {name}: `{script} start`, `{script} start --detach`, `{script} stop`.
set -euo pipefail
umask 077
export GLOBUS_COMPUTE_USER_DIR={directory}
if [ -f "$GLOBUS_COMPUTE_USER_DIR/{credentials}" ]; then
  set -a
  . "$GLOBUS_COMPUTE_USER_DIR/{credentials}"
  set +a
fi
command=${{1:?start or stop}}
shift
exec {program} "$command" {name} "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the folder of an endpoint is: `directory` is the daemon's ``GLOBUS_COMPUTE_USER_DIR``."""

    name: str
    directory: Path

    @property
    def folder(self) -> Path:
        return self.directory / self.name

    @property
    def script(self) -> Path:
        """Program that starts and stops it, with the environment that the daemon needs."""
        return self.directory / f"run-{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """The values of the site, as they are written: all are strings, and nothing after the colon is an empty one."""
        values = yaml.load((self.folder / ENVIRONMENT).read_text(), Loader=yaml.BaseLoader)  # noqa: S506 -- strings only
        return {str(key): str(value) for key, value in (values or {}).items()}


def facilities() -> dict[str, tuple[str, ...]]:
    """The endpoints for which there are files, by facility."""
    found: dict[str, list[str]] = {}
    for template in sorted(_FILES.glob("*/*/user_config_template.yaml.j2")):
        found.setdefault(template.parent.parent.name, []).append(template.parent.name)
    return {facility: tuple(endpoints) for facility, endpoints in found.items()}


def lay_out(
    facility: str, kind: str, directory: Path, values: Mapping[str, str], *, name: str = "", venv: Path | None = None
) -> Endpoint:
    """Write the folder of an endpoint, or bring it to the files of this version.

    `values` are entries of the site's ``user_environment.yaml``. Those of an earlier call stay as they are, with
    whatever the site has added. `venv` is the environment of the daemon; left out, the one that runs this.

    Raises:
        UnknownName: if there is no such facility, endpoint or value.
        ConfigError: if a value is missing, or the name is none for a folder.
    """
    source = _source(facility, kind)
    chosen = name or f"beamline-{facility}-{kind.replace('_', '-')}"
    if not _NAME.fullmatch(chosen):
        raise ConfigError(f"{chosen!r} is no name for an endpoint", next_step="use letters, digits, - and _")
    endpoint = Endpoint(name=chosen, directory=directory.absolute())
    environment = venv or Path(sys.prefix)
    entries = (source / ENVIRONMENT).read_text()
    earlier = endpoint.environment if (endpoint.folder / ENVIRONMENT).exists() else {}
    known = _names(entries)
    if unknown := sorted(values.keys() - known):
        raise UnknownName(f"no value {', '.join(unknown)}", where=f"{facility} {kind}", next_step=_use(known))
    given = _found(environment, endpoint.directory) | earlier | dict(values)
    text = _filled(entries, given, where=f"{facility} {kind}") + _added(earlier, known)
    endpoint.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file in (*sorted(source.iterdir()), _FILES / _SHARED):
        target = endpoint.folder / file.name
        if file.name not in KEPT or not target.exists():
            target.write_text(file.read_text())
    (endpoint.folder / ENVIRONMENT).write_text(text)
    _write_program(endpoint, environment / "bin" / "globus-compute-endpoint")
    return endpoint


def _source(facility: str, kind: str) -> Path:
    known = facilities()
    if facility not in known:
        raise UnknownName(f"no files for facility {facility!r}", next_step=_use(known))
    if kind not in known[facility]:
        raise UnknownName(f"no endpoint {kind!r} at {facility}", next_step=_use(known[facility]))
    return _FILES / facility / kind


def _use(names: Mapping[str, object] | tuple[str, ...] | set[str]) -> str:
    return f"use one of {', '.join(sorted(names))}"


def _found(venv: Path, directory: Path) -> dict[str, str]:
    """What is known without asking: the programs of whoever configures are those that the endpoint needs."""
    inherited = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder.startswith("/")]
    path = dict.fromkeys([str(venv / "bin"), *inherited])
    return {
        "PATH": os.pathsep.join(path),
        "BEAMLINE_ENDPOINT": str(venv),
        "GLOBUS_COMPUTE_USER_DIR": str(directory),
    }


def _names(entries: str) -> set[str]:
    return {found[1] for line in entries.splitlines() if (found := _ENTRY.match(line))}


def _filled(entries: str, values: Mapping[str, str], *, where: str) -> str:
    """The lines of the package's file, with comments, and with the values of the site."""
    lines = []
    missing = []
    for line in entries.splitlines():
        found = _ENTRY.match(line)
        if found is None:
            lines.append(line)
        elif (key := found[1]) in values:
            lines.append(_entry(key, values[key]))
        elif found[2].strip():
            lines.append(line)
        else:
            missing.append(key)
    if missing:
        words = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"no value for {', '.join(missing)}", where=where, next_step=f"add {words} to the command")
    return "\n".join(lines) + "\n"


def _added(earlier: Mapping[str, str], known: set[str]) -> str:
    """What the site has of its own: a proxy, a path of libraries."""
    lines = [_entry(key, value) for key, value in earlier.items() if key not in known]
    return "\n".join(["# Added by this site.", *lines, ""]) if lines else ""


def _entry(key: str, value: str) -> str:
    return f"{key}: {json.dumps(value, ensure_ascii=False)}"


def _write_program(endpoint: Endpoint, program: Path) -> None:
    text = _RUN.format(
        name=endpoint.name,
        script=endpoint.script.name,
        directory=shlex.quote(str(endpoint.directory)),
        credentials=CREDENTIALS,
        program=shlex.quote(str(program)),
    )
    endpoint.script.write_text(text)
    endpoint.script.chmod(0o700)
