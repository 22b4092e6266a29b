"""The accounting database of a cluster: MariaDB on a socket, slurmdbd before it, and the accounts within."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestration.sandbox.slurm import configuration
from orchestration.sandbox.slurm.files import INSIDE, Files
from orchestration.sandbox.slurm.requirements import SEARCHED

Command = Callable[[Sequence[str]], str]
"""Runs a command inside, and returns what it printed."""

_MARK = "filled"
"""A file of the database's directory, made when all accounts are in it."""

_GRANT = (
    "create database if not exists slurm_acct_db;"
    " create user if not exists slurm@localhost identified by 'slurm';"
    " grant all on slurm_acct_db.* to slurm@localhost"
)


def is_filled(files: Files) -> bool:
    """Whether there is a whole database, rather than what an interrupted start has left."""
    return _mark(files).exists()


def restore(files: Files) -> bool:
    """Unpack the database that an earlier cluster left for later ones; whether there was one."""
    snapshot = _snapshot()
    if not snapshot.is_file():
        return False
    shutil.rmtree(files.database, ignore_errors=True)
    try:
        with tarfile.open(snapshot) as archive:
            archive.extractall(files.root, filter="fully_trusted")  # noqa: S202 -- from `keep`, in a cache of our own
    except (tarfile.TarError, EOFError, zlib.error):  # damaged: worth no more than none
        snapshot.unlink(missing_ok=True)
        return False
    return True


def create(files: Files, command: Command) -> None:
    """An empty database, not yet running."""
    shutil.rmtree(files.database, ignore_errors=True)
    files.database.mkdir()
    shutil.chown(files.database, "slurm", "slurm")
    command(
        (
            "mariadb-install-db",
            "--no-defaults",
            "--user=slurm",
            f"--datadir={INSIDE}/db",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        )
    )


def grant(command: Command) -> None:
    """Let slurmdbd in. Fails until the server answers."""
    command(("mariadb", "--no-defaults", "-uroot", "-S", f"{INSIDE}/run/mysql.sock", "-e", _GRANT))


def fill(files: Files, command: Command) -> None:
    """The account, its users and the qualities of service."""
    command(("sacctmgr", "-i", "add", "qos", ",".join(configuration.QUALITIES)))
    command(("sacctmgr", "-i", "load", f"file={INSIDE}/etc/cluster.cfg"))
    for name, *limits in configuration.QUALITY_LIMITS:
        command(("sacctmgr", "-i", "modify", "qos", name, "set", *limits))
    _mark(files).touch()


def keep(files: Files) -> None:
    """Leave the database, which nobody uses now, for later clusters. The last of two that do so at once stays."""
    snapshot = _snapshot()
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    part = snapshot.with_name(f".{snapshot.name}.{os.getpid()}")
    with tarfile.open(part, "w:gz", compresslevel=1) as archive:
        archive.add(files.database, arcname=files.database.name)
    part.replace(snapshot)


def _mark(files: Files) -> Path:
    return files.database / _MARK


def _snapshot() -> Path:
    """One for each content: other accounts, or another version of the database, make another one."""
    programs = [Path(shutil.which(name, path=SEARCHED) or name).stat() for name in ("mariadbd", "slurmdbd")]
    content = repr(
        (
            configuration.cluster_accounts(),
            configuration.QUALITIES,
            configuration.QUALITY_LIMITS,
            configuration.MARIADB,
            [(program.st_size, program.st_mtime_ns) for program in programs],
            _MARK,
        )
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return cache / "beamline-orchestration" / f"slurm-accounts-{digest}.tar.gz"
