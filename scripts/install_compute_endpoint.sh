#!/usr/bin/env bash
# The Globus Compute endpoint daemon, in an environment of its own.
#
#   scripts/install_compute_endpoint.sh DIRECTORY [PYTHON]
#
# PYTHON is an interpreter of version 3.11 to 3.13; left out, that of .venv or python3.
# The tests look for the daemon in BEAMLINE_TEST_COMPUTE_ENDPOINT:
#
#   scripts/install_compute_endpoint.sh build/endpoint && export BEAMLINE_TEST_COMPUTE_ENDPOINT=$PWD/build/endpoint
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then sed -n '2,9p' "$0" >&2; exit 2; fi
directory=$1
own=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/python
python=${2:-$([ -x "$own" ] && echo "$own" || echo python3)}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
  { echo "$python is not Python 3.11, 3.12 or 3.13: name another one after the directory" >&2; exit 1; }
case $("$python" -c 'import sys; print(sys.platform)') in
  linux) ;;
  *) echo "the daemon runs on Linux only" >&2; exit 1 ;;
esac

# The interpreter itself, not that of another environment: this one must survive the other.
"$("$python" -c 'import sys; print(sys._base_executable)')" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet --disable-pip-version-check 'globus-compute-endpoint>=4.19,<4.20'
"$directory/bin/globus-compute-endpoint" version
