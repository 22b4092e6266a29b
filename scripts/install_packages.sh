#!/usr/bin/env bash
# Install those of these Debian packages that are missing, as root or with sudo. No service among them is started.
#
#   scripts/install_packages.sh PACKAGE...
set -euo pipefail

stop() { echo "install_packages.sh: $*" >&2; exit 1; }

[ $# -gt 0 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
  stop "this is no Debian (apt-get was not found): install yourself what these packages have: $*"

missing=()
for package in "$@"; do
  [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
    missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || stop "only root can install packages: run it as root. Missing are ${missing[*]}"
  exec sudo "$0" "${missing[@]}"
fi

# Debian would start each service at once. A policy of the machine's own is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
  { apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; } ||
  stop "the packages could not be installed: ${missing[*]}"
