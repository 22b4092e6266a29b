"""A cluster in one directory: started, asked, and ended with all that it started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestration.errors import ConfigError, OperationFailed
from orchestration.sandbox import processes
from orchestration.sandbox.processes import Process
from orchestration.sandbox.slurm import accounting, configuration, namespace, programs, requirements
from orchestration.sandbox.slurm.configuration import NODES, Ports
from orchestration.sandbox.slurm.files import INSIDE, Files, Record

Tell = Callable[[str, float], None]
"""Called with the name of each part that is ready, and after how many seconds."""

START_PATIENCE = 60.0
STOP_PATIENCE = 5.0
COMMAND_PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a cluster offers. `python` runs jobs: it and its environment can be read by all users inside.

    `images` are what its podman-hpc knows, by patterns of names; left out: every name is the environment of `python`.
    `shown` are further directories that its users must be able to read, whatever lies above them.
    """

    python: Path = field(default_factory=lambda: Path(sys.executable))
    images: tuple[str, ...] = ("*",)
    shown: tuple[Path, ...] = ()


class Cluster:
    def __init__(self, directory: Path, plan: Plan | None = None) -> None:
        self.files = Files.at(directory)
        self._plan = plan or Plan()

    # ----- starting -------------------------------------------------------------------------------------------------

    def up(self, tell: Tell = lambda name, seconds: None) -> None:
        """Start it, unless it runs. Jobs and accounts of before are there again.

        Raises:
            ConfigError: where Slurm cannot run, or the directory holds something else.
            OperationFailed: naming the part that did not start, with the end of its log.
        """
        requirements.require()
        self._require_outside()
        with self._lock():
            self.files.create()
            if self.running:
                return
            self._stop()
            try:
                self._start(tell)
            except BaseException:
                self._stop()  # a part of a cluster would be taken for a whole one
                raise

    def _start(self, tell: Tell) -> None:
        began = time.monotonic()

        def done(name: str) -> None:
            tell(name, time.monotonic() - began)

        self._enclose()
        done("namespace")
        self._start_munge()
        self._start_accounting()
        done("accounting")
        self.command(("slurmctld",))
        for node in NODES:
            self.command(("slurmd", "-N", node))
        self._wait(self._all_there, "the nodes did not report", "slurmctld.log")
        done("nodes")

    def _enclose(self) -> None:
        """Write what everything inside reads, and make the inside."""
        groups = namespace.groups_possible()
        record = Record(
            ports=configuration.take_ports(self.files.read().ports),
            group=f"beamline-{secrets.token_hex(4)}" if groups else "",
        )
        self.files.write(record)
        configuration.write(self.files, Ports.of(record.ports), groups=groups)
        image = programs.python_image(self._plan.python)
        programs.install(self.files, dict.fromkeys(self._plan.images, image))
        if groups:
            namespace.make_groups(record.group)
        shown = [*programs.shown(image), *self._plan.shown]
        keeper = namespace.hold(self.files, shown=shown, group=record.group)
        self.files.write(replace(record, keeper=keeper))

    def _start_munge(self) -> None:
        """Its own daemon with its own key: the credentials of one cluster are worth nothing in another."""
        folder = self.files.root / "munge"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "key").write_bytes(secrets.token_bytes(128))
        (folder / "key").chmod(0o400)
        for path in (folder, folder / "key"):
            shutil.chown(path, "munge", "munge")
        inside = f"{INSIDE}/munge"
        files = ("key", "pid", "log", "seed")
        options = [f"--{name}-file={inside}/{name}" for name in files] + [f"--socket={inside}/socket"]
        self.command(("runuser", "-u", "munge", "--", "munged", *options))

    def _start_accounting(self) -> None:
        filled = accounting.is_filled(self.files) or accounting.restore(self.files)
        if not filled:
            accounting.create(self.files, self.command)
        self._serve_accounting()
        if not filled:
            accounting.fill(self.files, self.command)
            self._end(("slurmdbd", "mariadbd"))
            accounting.keep(self.files)
            self._serve_accounting()

    def _serve_accounting(self) -> None:
        keeper = self._keeper()
        argv = namespace.entering(keeper, ("mariadbd", f"--defaults-file={INSIDE}/etc/my.cnf"))
        log = self.files.logs / "mariadbd.out"
        processes.start(argv, environment=namespace.environment(self.files), directory=self.files.root, log=log)
        self._wait(self._answers(lambda: accounting.grant(self.command)), "MariaDB did not start", "mariadbd.log")
        self.command(("slurmdbd",))
        listing = ("sacctmgr", "-n", "list", "cluster")
        self._wait(self._answers(lambda: self.command(listing)), "slurmdbd did not answer", "slurmdbd.log")

    def _all_there(self) -> bool:
        try:
            states = self.command(("sinfo", "-h", "-N", "-p", "shared", "-o", "%T")).split()
        except OperationFailed:
            return False
        return len(states) == len(NODES) and not any(_absent(state) for state in states)

    @staticmethod
    def _answers(ask: Callable[[], object]) -> Callable[[], bool]:
        def answered() -> bool:
            try:
                ask()
            except OperationFailed:
                return False
            return True

        return answered

    def _wait(self, condition: Callable[[], bool], otherwise: str, log: str) -> None:
        until = time.monotonic() + START_PATIENCE
        while not condition():
            if time.monotonic() > until or not self._keeper().alive:
                what = f"{otherwise}; the end of its log:\n{self._tail(log)}\n"
                raise OperationFailed(what, where=str(self.files.logs / log))
            threading.Event().wait(0.03)

    def _tail(self, log: str) -> str:
        path = self.files.logs / log
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"  | {line}" for line in lines[-15:]) or "  | (it wrote nothing)"

    # ----- asking ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether its controller runs; single nodes may be down."""
        record = self.files.read()
        return record.keeper is not None and record.keeper.alive and self._process("slurmctld") is not None

    def entering(self, argv: Sequence[str], *, directory: str = "/") -> list[str]:
        """The command that runs another one at the facility. Raises: OperationFailed if it does not run."""
        return namespace.entering(self._keeper(), argv, directory=directory)

    @property
    def environment(self) -> dict[str, str]:
        """Of a process at the facility."""
        return namespace.environment(self.files)

    def command(self, argv: Sequence[str], *, stdin: str = "") -> str:
        """Run a command at the facility, as root, and return what it prints.

        Raises:
            OperationFailed: if it fails, or takes more than a minute; with what it printed.
        """
        try:
            answer = subprocess.run(
                self.entering(argv),
                env=self.environment,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=COMMAND_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            what = f"{argv[0]} did not end in {COMMAND_PATIENCE:.0f} s"
            raise OperationFailed(what, where=str(self.files.root)) from error
        if answer.returncode != 0:
            printed = (answer.stderr or answer.stdout).strip()[-500:]
            raise OperationFailed(f"{' '.join(argv[:3])} failed: {printed}", where=str(self.files.root))
        return answer.stdout

    def _keeper(self) -> Process:
        keeper = self.files.read().keeper
        if keeper is None or not keeper.alive:
            raise OperationFailed(
                "no cluster runs there", where=str(self.files.root), next_step="start it: scripts/slurm_facility.sh up"
            )
        return keeper

    # ----- stopping -------------------------------------------------------------------------------------------------

    def down(self) -> bool:
        """End it with every process in its namespace; whether anything was running. Its files stay.

        Raises:
            OperationFailed: if something could not be ended.
            ConfigError: when called from inside.
        """
        if not self.files.exists():
            # Its directory may have been deleted under it; its processes still carry the name.
            return processes.kill_marked(str(self.files.root)) > 0
        self._require_outside()
        with self._lock():
            return self._stop()

    def remove(self) -> None:
        """End it and delete its directory. Raises: ConfigError if there is no cluster in it."""
        self.down()
        self.files.remove()

    def _stop(self) -> bool:
        record = self.files.read()
        self._end(("slurmctld",))  # first: it saves its jobs, and does not see its nodes go
        self._end(("slurmdbd", "mariadbd"))
        left = namespace.kill_members(self.files)
        processes.kill_marked(str(self.files.root))
        namespace.remove_groups(record.group)
        self.files.write(Record(ports=record.ports))
        return left > 0

    def _end(self, names: Sequence[str]) -> None:
        """Ask daemons to end, one after the other, and wait for each; who does not in time is killed later."""
        for name in names:
            process = self._process(name)
            until = time.monotonic() + STOP_PATIENCE
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, 15)
            while process is not None and process.alive and time.monotonic() < until:
                threading.Event().wait(0.02)

    def _process(self, name: str) -> Process | None:
        """A daemon by its pid file; None if it does not run, or the number now belongs to a process outside."""
        try:
            process = Process.of(int((self.files.run / f"{name}.pid").read_text()))
        except (OSError, ValueError):
            return None
        return process if process is not None and namespace.is_inside(self.files, process.pid) else None

    def _require_outside(self) -> None:
        """Everything that calls the directory `/facility` is ended with the cluster: who ends it must not."""
        if self.files.root == Path(INSIDE) or namespace.is_inside(self.files, os.getpid()):
            raise ConfigError(
                "a cluster is neither started nor ended from inside, nor in a directory of that name",
                where=str(self.files.root),
                next_step="run this outside of it, on another directory",
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One at a time starts or stops it."""
        self.files.root.parent.mkdir(parents=True, exist_ok=True)
        with self.files.lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield


def _absent(state: str) -> bool:
    """Of a node: a star marks those that do not answer. One that is busy with jobs of before is there."""
    return state.endswith("*") or state.startswith(("down", "unknown"))
