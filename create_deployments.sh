#!/usr/bin/env bash
# Makes the Prefect deployments of the named beamlines (of all, if none is named): pools, queues, variables, schedules.
# Safe to run again. PREFECT_API_URL says where; the server is waited for.
#
#   ./create_deployments.sh [beamline ...]
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
python="$here/.venv/bin/python"
[ -x "$python" ] || python="$(command -v python3 || command -v python)"

if [ -f "$here/config.yml" ]; then
  export BEAMLINE_CONFIG="${BEAMLINE_CONFIG:-$here/config.yml}"
fi
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m orchestration.flows.deploy "$@"
