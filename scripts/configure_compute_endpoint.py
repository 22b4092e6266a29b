#!/usr/bin/env python3
"""Make the folder of a Globus Compute endpoint at a facility, and have the daemon itself read it.

Run it with the Python of the environment that scripts/install_compute_endpoint.sh made:

    ENDPOINT/bin/python scripts/configure_compute_endpoint.py FACILITY KIND DIRECTORY [NAME=VALUE ...]

FACILITY KIND is alcf or nersc (or local), compute or non_compute. DIRECTORY holds the folders of all endpoints of this
account. NAME=VALUE are entries of the site's user_environment.yaml; what is missing is asked for. Run again, it brings
the folder to the files of this version, and keeps the values and what the site has added.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestration.errors import OrchestrationError
from orchestration.globus.endpoints.layout import CREDENTIALS, Endpoint, lay_out
from orchestration.globus.endpoints.loading import loaded


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facility")
    parser.add_argument("kind")
    parser.add_argument("directory", type=Path)
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--name", default="", help="of the endpoint, if not beamline-FACILITY-KIND")
    asked = parser.parse_args()
    pairs = [value.partition("=") for value in asked.values]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        parser.error(f"{wrong[0]!r} is not NAME=VALUE")
    values = {name: value for name, _, value in pairs}
    try:
        endpoint = lay_out(asked.facility, asked.kind, asked.directory, values, name=asked.name)
        with loaded(endpoint, {}) as result:
            print(f"{endpoint.folder}: read by the daemon, {_summary(result.engine)}")
    except OrchestrationError as error:
        print(error, file=sys.stderr)
        return 1
    print(_next(endpoint))
    return 0


def _summary(engine: object) -> str:
    provider = getattr(getattr(engine, "executor", None), "provider", None)
    asked = [(name, getattr(provider, name, None)) for name in ("account", "queue", "qos", "constraint", "walltime")]
    words = [f"{name} {value}" for name, value in asked if value]
    return ", ".join([type(provider or engine).__name__, *words])


def _next(endpoint: Endpoint) -> str:
    run = endpoint.script
    return f"""
Next:
  1. Say who runs it: the service's own client, in {endpoint.directory / CREDENTIALS} (chmod 600):
       GLOBUS_COMPUTE_CLIENT_ID=...
       GLOBUS_COMPUTE_CLIENT_SECRET=...
  2. Start it, and note its id for config.yml:
       {run} start --detach
       cat {endpoint.folder / "endpoint.json"}
  3. Keep it running, where cron may be used (`crontab -e`; it changes nothing while the endpoint runs):
       */5 * * * * {run} start --detach >>{endpoint.directory / "cron.log"} 2>&1
  4. Look at it:
       tail {endpoint.folder / "endpoint.log"}
"""


if __name__ == "__main__":
    sys.exit(main())
