#!/usr/bin/env bash
# A private PostgreSQL server for the tests, on loopback only, with a password of its own.
#
#   scripts/install_postgresql.sh start DIRECTORY   install it if it is missing (Debian), start one, print its URL
#   scripts/install_postgresql.sh stop DIRECTORY    stop it and remove its data
#
# The tests look for the URL in BEAMLINE_TEST_POSTGRESQL_URL:
#
#   export BEAMLINE_TEST_POSTGRESQL_URL=$(scripts/install_postgresql.sh start build/postgresql)
set -euo pipefail

binaries() {
  find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1
}

# PostgreSQL refuses to run as root: then the user of the Debian package runs it.
unprivileged() {
  if [ "$(id -u)" -eq 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

install() {
  [ -n "$(binaries)" ] && return
  local root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  # No cluster of Debian's own: it would take a port and run on after the tests.
  "${root[@]}" mkdir -p /etc/postgresql-common/createcluster.d
  echo "create_main_cluster = false" | "${root[@]}" tee /etc/postgresql-common/createcluster.d/tests.conf >/dev/null
  "$(dirname "$0")/install_packages.sh" postgresql >&2
}

# Below the ports that the kernel gives to connections.
free_port() {
  python3 -c '
import random, socket
for port in random.sample(range(20_000, 32_000), 1000):
    try:
        socket.socket().bind(("127.0.0.1", port))
    except OSError:
        continue
    print(port)
    break'
}

start() {
  install
  local bin directory port password
  bin=$(binaries)
  mkdir -p "$1"
  directory=$(cd "$1" && pwd)/postgresql
  mkdir "$directory"
  password=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
  (umask 077 && printf '%s\n' "$password" >"$directory/password")
  [ "$(id -u)" -ne 0 ] || chown -R postgres "$1"
  unprivileged "$bin/initdb" --pgdata "$directory/data" --username beamline --pwfile "$directory/password" \
    --auth scram-sha-256 --encoding UTF8 --no-sync >&2
  for _ in 1 2 3; do  # somebody else may take the port before the server has it
    port=$(free_port)
    # The data live as long as the tests do: nothing need survive the loss of power.
    unprivileged "$bin/pg_ctl" --pgdata "$directory/data" --log "$directory/log" --wait start --options \
      "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=200" >&2 &&
      { echo "postgresql+psycopg://beamline:$password@127.0.0.1:$port/postgres"; return; }
  done
  cat "$directory/log" >&2
  exit 1
}

stop() {
  local directory
  directory=$(cd "$1" && pwd)/postgresql
  unprivileged "$(binaries)/pg_ctl" --pgdata "$directory/data" --mode fast --wait stop >&2
  rm -rf "$directory"
}

case "${1:-}:$#" in
  start:2) start "$2" ;;
  stop:2) stop "$2" ;;
  *) sed -n '2,9p' "$0" >&2; exit 2 ;;
esac
