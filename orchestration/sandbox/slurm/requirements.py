"""What a machine must have before Slurm can run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from orchestration.errors import ConfigError

PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "runuser": "util-linux",
}
"""Each program, and the Debian package that has it."""

SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

INSTALLER = "scripts/install_slurm.sh"


def missing_programs() -> dict[str, str]:
    """Programs that are not installed, with their packages."""
    return {name: package for name, package in PROGRAMS.items() if shutil.which(name, path=SEARCHED) is None}


def obstacle() -> str:
    """Why no cluster can run here, in one sentence; empty if one can."""
    if not sys.platform.startswith("linux"):
        return f"Slurm runs on Linux, not on {sys.platform}"
    lacking = missing_programs()
    if lacking:
        return f"Slurm is not installed here ({', '.join(lacking)} not found): run {INSTALLER} (Debian, as root)"
    if os.geteuid() != 0:
        return "a Slurm cluster with users of its own can only be started by root"
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"no mount namespace can be made here ({probe.stderr.strip()}): in a container, run it privileged"
    return ""


def require() -> None:
    """Raises: ConfigError, with what to install."""
    found = obstacle()
    if found:
        raise ConfigError(found, where="this machine", next_step=f"run {INSTALLER} as root on Debian 12")
