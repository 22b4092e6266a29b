#!/usr/bin/env bash
# Install Slurm with its accounting database from Debian packages (Debian 12). Nothing is started:
# scripts/slurm_facility.sh does that.
set -euo pipefail

# python3-venv is for the science programs, which are installed in the cluster with the machine's own Python.
"$(dirname "$0")/install_packages.sh" slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server-core \
  mariadb-client-core bubblewrap python3-venv
echo "Slurm is installed: $(slurmctld -V)"
