#!/usr/bin/env bash
# The test suite of sfapi-client itself, meant for the service at NERSC, against the Superfacility API stand-in over a
# real Slurm (scripts/install_slurm.sh). Takes about eight minutes; exits as pytest does, and fails as well if not every
# test of the suite has run and passed.
#
#   scripts/run_sfapi_client_tests.sh DIRECTORY [PYTEST ARGUMENTS...]
#
# The suite is fetched from the package index that pip is configured for, and stays in DIRECTORY, with an environment of
# its own; DIRECTORY must be outside this repository.
set -euo pipefail

version=0.6.0
sha256=122ac4e2d0688a4af4c7328e0e82449f2378507f4a39bf06d3840337c89a758c
tests=137
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}

stop() { echo "run_sfapi_client_tests.sh: $*" >&2; exit 1; }

fetch() {
  local build=$1
  [ -x "$build/venv/bin/pytest" ] && return
  rm -rf "$build"
  mkdir -p "$build"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary sfapi-client --dest "$build" \
    --require-hashes --requirement <(echo "sfapi-client==$version --hash=sha256:$sha256") ||
    stop "the source of sfapi-client $version could not be fetched, or is not the one whose tests are known"
  mkdir "$build/source"
  tar --extract --file "$build/sfapi_client-$version.tar.gz" --directory "$build/source" --strip-components 1
  "$python" -m venv "$build/venv"
  # The client as it is released; what signs its tokens as this project has it.
  "$build/venv/bin/pip" install --quiet --disable-pip-version-check "$build/sfapi_client-$version.tar.gz" \
    "authlib>=1.6,<2" "pytest>=8,<9" pytest-mock "pytest-asyncio>=1,<2" pytest-timeout python-dotenv ||
    stop "the environment of the suite could not be installed"
}

# What the suite is told of the place where it runs: its variables, and a job in the home of the user.
suite() {
  local build=$1 cluster=$2 home=/global/homes/a/alsdev/sfapi_client
  shift 2
  "$here/scripts/slurm_facility.sh" run "$cluster" runuser -u alsdev -- \
    sh -c 'mkdir -p "$1/tmp" && cat >"$1/job.sh" && chmod 755 "$1/job.sh"' sh "$home" <<JOB
#!/bin/bash
#SBATCH --constraint=cpu
#SBATCH --qos=debug
#SBATCH --account=als
#SBATCH --partition=shared
#SBATCH --nodes=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=1000
#SBATCH --time=5
#SBATCH --output=$home/tmp/job_%j.out
sleep 15
echo done
JOB
  # The suite looks for outages of the past, which every facility has.
  "$python" -c '
import sys
from datetime import UTC, datetime
from orchestration.sandbox.client import SandboxClient
with SandboxClient(sys.argv[1]) as sandbox:
    began, ended = datetime(2026, 1, 21, 6, tzinfo=UTC), datetime(2026, 1, 21, 22, tzinfo=UTC)
    sandbox.superfacility.add_outage(began, ended, status="Completed")' "$BEAMLINE_SANDBOX_URL"
  local id secret token
  id=$(cat "$PATH_NERSC_CLIENT_ID")
  secret=$("$build/venv/bin/python" -c '
import json, sys
from joserfc.jwk import RSAKey
print(json.dumps(RSAKey.import_key(open(sys.argv[1]).read()).as_dict(private=True)))' "$PATH_NERSC_PRI_KEY")
  token=$(SECRET=$secret "$build/venv/bin/python" -W ignore -c '
import json, os, sys
from sfapi_client import Client
api, token, id = sys.argv[1:]
print(Client(id, json.loads(os.environ["SECRET"]), api_base_url=api, token_url=token).token)' \
    "$SFAPI_API_URL" "$SFAPI_TOKEN_URL" "$id")
  mkdir -p "$build/home"
  cd "$build/source"
  env HOME="$build/home" API_BASE_URL="$SFAPI_API_URL" TOKEN_URL="$SFAPI_TOKEN_URL" \
    DEV_API_URL="$SFAPI_API_URL" DEV_TOKEN_URL="$SFAPI_TOKEN_URL" \
    SFAPI_CLIENT_ID="$id" SFAPI_DEV_CLIENT_ID="$id" SFAPI_CLIENT_SECRET="$secret" SFAPI_DEV_CLIENT_SECRET="$secret" \
    ACCESS_TOKEN="$token" TEST_USERNAME=alsdev TEST_ANOTHER_USERNAME=slurm TEST_GROUP=alsdev TEST_PROJECT=als \
    TEST_JOB_ACCOUNT=als TEST_JOB_PATH="$home/job.sh" TEST_TMP_DIR="$home/tmp" \
    "$build/venv/bin/python" -W ignore -m pytest -q -p no:cacheprovider --timeout 240 -o asyncio_mode=auto \
    --junitxml "$build/result.xml" tests "$@"
  [ $# -gt 0 ] || whole "$build/result.xml"
}

# Whether every test of the suite has passed: one that is skipped, or not collected, proves nothing and harms no exit code.
whole() {
  "$python" -c '
import sys
from xml.etree import ElementTree
suites = list(ElementTree.parse(sys.argv[1]).iter("testsuite"))
ran, bad = (sum(int(one.get(name, 0)) for one in suites for name in names) for names in
            (["tests"], ["skipped", "failures", "errors"]))
if (ran, bad) != (int(sys.argv[2]), 0):
    sys.exit(f"run_sfapi_client_tests.sh: {ran} tests ran, {bad} of them did not pass; the suite has {sys.argv[2]}")
' "$1" "$tests"
}

case "${1:-}" in
  --inside) shift; suite "$@" ;;
  --whole) whole "$2" ;;
  "" | -*) sed -n '2,9p' "$0" >&2; exit 2 ;;
  *)
    mkdir -p "$1"
    directory=$(cd "$1" && pwd)
    shift
    case "$directory/" in "$here/"*) stop "$directory is inside the repository: name a directory outside" ;; esac
    [ -x "$python" ] || stop "$python is missing: run make test once, or set PYTHON"
    fetch "$directory/suite"
    exec "$here/scripts/slurm_facility.sh" serve "$directory/slurm" \
      "$here/scripts/run_sfapi_client_tests.sh" --inside "$directory/suite" "$directory/slurm" "$@"
    ;;
esac
