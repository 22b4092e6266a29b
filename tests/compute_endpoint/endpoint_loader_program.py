"""Runs in the environment of the daemon: loads an endpoint's folder as the daemon does, and has a batch job submitted.

Standard input is JSON: `directory`, `name`, `options`, `runtime`. Standard output is JSON: what the daemon made of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from orchestration.errors import ConfigError
from orchestration.globus.endpoints.layout import Endpoint
from orchestration.globus.endpoints.loading import loaded


def main() -> None:
    asked = json.load(sys.stdin)
    endpoint = Endpoint(name=asked["name"], directory=Path(asked["directory"]))
    try:
        with loaded(endpoint, asked["options"], runtime=asked["runtime"]) as found:
            told = described(found.engine, endpoint.directory / "submit_scripts")
    except ConfigError as error:
        told = {"refused": str(error)}
    sys.stdout.write(json.dumps(told) + "\n")


def described(engine: Any, scripts: Path) -> dict[str, object]:
    told: dict[str, object] = {"engine": type(engine).__name__}
    executor: Any = getattr(engine, "executor", None)
    provider: Any = getattr(executor, "provider", None)
    if provider is None:
        return told
    told |= {"provider": type(provider).__name__, "drain_period": executor.drain_period}
    told |= {"retries": engine.max_retries_on_system_failure, "workers": executor.max_workers_per_node}
    told |= {"accelerators": executor.available_accelerators, "launch": executor.launch_cmd}
    if hasattr(provider, "walltime"):
        scripts.mkdir()
        provider.script_dir = str(scripts)
        told["job"] = provider.submit("worker-pool --here", 1, "block")
        [script] = [file for file in scripts.iterdir() if "block." in file.name and file.suffix != ".sh"]
        told["script"] = script.read_text()
    return told


if __name__ == "__main__":
    main()
