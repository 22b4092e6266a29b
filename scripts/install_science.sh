#!/usr/bin/env bash
# Installs the science programs at a facility: a virtual environment in PREFIX with this version of them, and nothing of
# the service itself. Run it on a login node of the facility, in a checkout of this repository (or with --wheel):
#
#   scripts/install_science.sh PREFIX [--gpu] [--python PYTHON] [--wheel FILE]
#
# Then set the site's `python` in config.yml to PREFIX/bin/python. Jobs of another version than the service asks for do
# not begin: run this again after each update of the service. An environment is replaced only by one that works.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }

prefix= extra=science python= wheel=
while [ $# -gt 0 ]; do
    case $1 in
        --gpu) extra=science,gpu ;;
        --python) python=${2:?--python needs an interpreter}; shift ;;
        --wheel) wheel=${2:?--wheel needs a file}; shift ;;
        -h | --help | -*) usage ;;
        *) [ -z "$prefix" ] || usage; prefix=$1 ;;
    esac
    shift
done
[ -n "$prefix" ] || usage

suitable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; }
if [ -z "$python" ]; then
    for candidate in python3 python3.13 python3.12 python3.11; do
        if suitable "$candidate"; then python=$candidate; break; fi
    done
fi
[ -n "$python" ] && suitable "$python" || {
    say "No Python 3.11, 3.12 or 3.13 was found (${python:-python3}). Next: load a module that has one, or name it with --python."
    exit 1
}

mkdir -p "$(dirname "$prefix")"
prefix=$(cd "$(dirname "$prefix")" && pwd)/$(basename "$prefix")
new=$prefix.new.$$
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$new"' EXIT

if [ -z "$wheel" ]; then
    checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    [ -f "$checkout/pyproject.toml" ] || { say "$checkout is no checkout. Next: name a wheel with --wheel."; exit 1; }
    "$python" -m venv "$scratch/build"
    "$scratch/build/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$scratch" "$checkout"
    wheel=$(echo "$scratch"/beamline_orchestration-*.whl)
fi
[ -f "$wheel" ] || { say "There is no wheel $wheel. Next: check the path."; exit 1; }

# A virtual environment cannot be moved: its programs name their interpreter. So it is made where it will be, beside an
# older one that is put back if the new one does not work.
older=
if [ -e "$prefix" ]; then
    [ -f "$prefix/pyvenv.cfg" ] || { say "$prefix is there and is no environment of this script. Next: name another PREFIX."; exit 1; }
    older=yes
fi
restore() {
    if [ -e "$new" ]; then
        rm -rf "$prefix"
        mv "$new" "$prefix"
        say "The environment of before was put back."
    elif [ -z "$older" ]; then
        rm -rf "$prefix"
    fi
    rm -rf "$scratch"
}
trap restore EXIT # before the older one is moved, or whoever interrupts this would lose it
[ -z "$older" ] || mv "$prefix" "$new"

"$python" -m venv "$prefix"
pip() { "$prefix/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install --no-deps "$wheel"
# What the programs need is said by the wheel itself: the requirements of its extra, and none of the service's.
"$prefix/bin/python" - "$extra" > "$scratch/requirements.txt" <<'PYTHON'
import re
import sys
from importlib.metadata import requires

wanted = sys.argv[1].split(",")
for line in requires("beamline-orchestration") or ():
    requirement, _, marker = line.partition(";")
    found = re.fullmatch(r"\s*extra\s*==\s*['\"]([\w-]+)['\"]\s*", marker)
    if found and found[1] in wanted:
        print(requirement.strip())
PYTHON
pip install --requirement "$scratch/requirements.txt"
cd "$scratch" # or Python would take the programs of a checkout for those that were installed
version=$("$prefix/bin/python" -c 'from importlib.metadata import version; print(version("beamline-orchestration"))')
"$prefix/bin/python" -m orchestration.science tomography simulate "$scratch/scan.h5" --size 32 --angles 32 >/dev/null
"$prefix/bin/python" -m orchestration.science tomography reconstruct "$scratch/scan.h5" --out "$scratch/out" >/dev/null

trap - EXIT
rm -rf "$scratch" "$new"
say "Version $version of the science programs is installed, and reconstructed a small scan."
say "Next: set the site's \`python\` in config.yml to"
printf '%s\n' "$prefix/bin/python"
