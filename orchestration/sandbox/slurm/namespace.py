"""The mount namespace in which a cluster lives: the machine's own directories, and the facility's beside them."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestration.errors import OperationFailed
from orchestration.sandbox import processes
from orchestration.sandbox.processes import Process
from orchestration.sandbox.slurm.configuration import CONTROL_GROUPS, CONTROLLERS
from orchestration.sandbox.slurm.files import INSIDE, Files
from orchestration.sandbox.slurm.requirements import SEARCHED

PATIENCE = 20.0

_BUILD = """
set -eu
umask 022
home=$1 group=$2
shift 2
new=$home/root
mount -t tmpfs -o size=4m,mode=755 facility "$new"
for path in /*; do
  case $path in /pscratch | /global | INSIDE) continue ;; esac
  if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$new$path"
  elif [ -d "$path" ]; then mkdir "$new$path" && mount --rbind "$path" "$new$path"
  fi
done
umount -l "$new$home/root" 2>/dev/null || true
for option in "$@"; do
  path=${option#*:}
  case $option in
    cover:*) mount -t tmpfs -o size=4m,mode=755 covered "$new$path" ;;
    show:*) mkdir -p "$new$path" && mount --bind "$path" "$new$path" ;;
    control:*) mount --bind "$path/$group" "$new$path" ;;
  esac
done
mkdir "$new/pscratch" "$new/global" "$new/INSIDE" "$new/.old"
mount --bind "$home/fs/pscratch" "$new/pscratch"
mount --bind "$home/fs/global" "$new/global"
mount --bind "$home" "$new/INSIDE"
for name in passwd group; do mount --bind "$home/etc/$name" "$new/etc/$name"; done
cd "$new"
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
: >INSIDE/run/namespace
exec sleep infinity
""".replace("/INSIDE", str(INSIDE)).replace("INSIDE", str(INSIDE))
"""Bound, not changed: nothing of this is seen outside, and nothing is left of it when its last process ends.

pivot_root, since after a chroot the containers of rootless users could make no namespaces of their own.
"""


def hold(files: Files, *, shown: Iterable[Path], group: str) -> Process:
    """Make the namespace; the process that holds it. All users inside can read `shown`.

    Raises:
        OperationFailed: with what the kernel refused.
    """
    ready = files.run / "namespace"
    ready.unlink(missing_ok=True)
    log = files.logs / "namespace.log"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BUILD, "namespace", str(files.root), group]
    argv += _visibility(shown, home=files.root)
    if group:
        argv += [f"control:{CONTROL_GROUPS / controller}" for controller in CONTROLLERS]
    keeper = processes.start(argv, environment=environment(files), directory=files.root, log=log)
    until = time.monotonic() + PATIENCE
    while not ready.exists():
        if not keeper.alive or time.monotonic() > until:
            raise OperationFailed(
                f"the facility's file systems could not be mounted: {log.read_text(errors='replace').strip()[-500:]}",
                where=str(log),
                next_step="run as root with the right to mount (in a container: privileged)",
            )
        threading.Event().wait(0.01)
    return keeper


def environment(files: Files) -> dict[str, str]:
    """Of every process inside; the mark tells whose it is."""
    return {
        "PATH": f"{INSIDE}/bin:{SEARCHED}",
        "LANG": "C.UTF-8",
        "SLURM_CONF": f"{INSIDE}/etc/slurm.conf",
        "MYSQL_UNIX_PORT": f"{INSIDE}/run/mysql.sock",
        processes.MARK: str(files.root),
    }


def entering(keeper: Process, argv: Sequence[str], *, directory: str = "/") -> list[str]:
    """The command that runs another one inside; in `/`, if the directory cannot be seen from there."""
    if not Path(f"/proc/{keeper.pid}/root{directory}").is_dir():
        directory = "/"
    return ["nsenter", f"--target={keeper.pid}", "--mount", f"--wdns={directory}", "--", *argv]


def is_inside(files: Files, pid: int) -> bool:
    """Whether a process lives there: whether what it calls `/facility` is the directory of this cluster.

    Neither the number of a process nor the kernel's name for a namespace would do: both are given again.
    """
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root{INSIDE}"), os.stat(files.root))
    except OSError:
        return False


def kill_members(files: Files) -> int:
    """Kill everything that lives there, and what that starts meanwhile; how many there were.

    Containers end with the process that started them.
    """
    killed: set[int] = set()
    until = time.monotonic() + 10.0
    while members := {pid for pid in _pids() if is_inside(files, pid)}:
        killed |= members
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise OperationFailed(
                f"processes {sorted(members)} of the cluster could not be ended",
                where=str(files.root),
                next_step="end them yourself",
            )
        threading.Event().wait(0.02)
    return len(killed)


def make_groups(group: str) -> None:
    for controller in CONTROLLERS:
        (CONTROL_GROUPS / controller / group).mkdir(exist_ok=True)


def remove_groups(group: str) -> None:
    """The control groups of a cluster that runs no more, the innermost first; the kernel may need a moment."""
    for controller in CONTROLLERS:
        top = CONTROL_GROUPS / controller / group
        until = time.monotonic() + 5.0
        while group and top.is_dir():
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if time.monotonic() > until:
                return
            threading.Event().wait(0.02)


def groups_possible() -> bool:
    """Whether this machine has control groups of the kind with one hierarchy per controller, and lets us make some."""
    return all(os.access(CONTROL_GROUPS / one / "cgroup.procs", os.W_OK) for one in CONTROLLERS)


def _visibility(shown: Iterable[Path], *, home: Path) -> list[str]:
    """What to cover so that these directories can be reached by everybody, and then to show again below the covers.

    A directory that only its owner may pass (the home of root, often) is covered by an empty one that all may pass.
    The cluster's own directory, `home`, stays where it is for root, even below a cover.
    """
    paths = {one.resolve() for one in shown}
    closed = {path: next((one for one in reversed(path.parents) if _closed(one)), None) for path in paths}
    covers = sorted({one for one in closed.values() if one is not None})
    below = {path for path in paths | {home} if any(cover in path.parents for cover in covers)}
    outermost = sorted(path for path in below if not any(other in path.parents for other in below))
    return [f"cover:{path}" for path in covers] + [f"show:{path}" for path in outermost]


def _closed(path: Path) -> bool:
    return path.is_dir() and not path.stat().st_mode & stat.S_IXOTH


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
