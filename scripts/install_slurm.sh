#!/usr/bin/env bash
# Install Slurm with its accounting database from Debian packages (as root, Debian 12). Nothing is started:
# scripts/slurm_facility.sh does that.
set -euo pipefail

# python3-venv is for the science programs, which are installed in the cluster with the machine's own Python.
packages=(slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core bubblewrap python3-venv)

stop() { echo "install_slurm.sh: $*" >&2; exit 1; }

command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
  stop "this is no Debian (apt-get was not found): install Slurm with slurmdbd and MariaDB yourself"

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
    missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || { echo "Slurm is installed: $(slurmctld -V)"; exit 0; }

[ "$(id -u)" -eq 0 ] || stop "only root can install packages: run it as root, or with sudo"

# Debian would start a controller without settings, and fail. A policy of the machine's own is left alone.
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
echo "Slurm is installed: $(slurmctld -V)"
