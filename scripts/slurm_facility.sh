#!/usr/bin/env bash
# A real Slurm in one directory, shaped like NERSC's (scripts/install_slurm.sh installs what it needs). As root:
#
#   scripts/slurm_facility.sh up DIRECTORY                start it, print what to export
#   scripts/slurm_facility.sh status DIRECTORY            its nodes and jobs
#   scripts/slurm_facility.sh run DIRECTORY COMMAND...    run a command there: sbatch, squeue, a server, a shell
#   scripts/slurm_facility.sh serve DIRECTORY COMMAND...  run a command here beside a facility served from there: with
#                                                         the variables that lead to its Superfacility API
#   scripts/slurm_facility.sh down DIRECTORY [--remove]   end everything of it, even after a crash
#
# PYTHON names the interpreter, that of .venv if left out.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
[ -x "$python" ] || { echo "$python is missing: run make test once, or set PYTHON" >&2; exit 1; }
case "${1:-}:$#" in
  up:[2-9] | status:2 | down:[23] | run:[3-9] | run:[1-9][0-9] | serve:[3-9] | serve:[1-9][0-9]) exec "$python" -m orchestration.sandbox.slurm "$@" ;;
  *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac
