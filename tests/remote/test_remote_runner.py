"""What a job does at a facility, whoever started it: once, within its limits, with a report of how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from job_runner import Site, alive

WRITE = "import pathlib; pathlib.Path('a b.json').write_text('{\"x\": 1}')"
COUNT = "import os; print(os.getpid(), file=open('count', 'a'))"


UNTIL_GO = "; import time\nwhile not os.path.exists('go'): time.sleep(0.02)"


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        threading.Event().wait(0.02)


def test_a_job_with_its_outputs_ends_well_and_says_what_they_are(site: Site) -> None:
    code, report = site.run("t1", WRITE, outputs=[{"path": "a b.json", "kind": "json"}])
    assert (code, report["reason"], report["code"]) == (0, "exited", 0)
    assert report["outputs"][0]["content"] == {"x": 1}
    assert report["outputs"][0]["size"] == 8
    assert report["science_version"] == version("beamline-orchestration")


@pytest.mark.parametrize(
    ("kind", "written", "problem"),
    [
        ("file", None, "was not written"),
        ("file", "", "is empty"),
        ("json", "{", "is not valid JSON"),
        ("directory", None, "was not written"),
    ],
)
def test_exit_code_0_without_its_outputs_is_a_failure(site: Site, kind: str, written: str | None, problem: str) -> None:
    code = "pass" if written is None else f"open('out', 'w').write({written!r})"
    exit_code, report = site.run("t1", code, outputs=[{"path": "out", "kind": kind}])
    assert exit_code == 65
    assert problem in report["outputs"][0]["problem"]


def test_a_failing_program_is_reported_with_its_code_its_words_and_its_own_account(site: Site) -> None:
    program = (
        "import json, os, sys; json.dump({'type': 'ScanMissing', 'what': 'no scan'},"
        " open(os.environ['ORCHESTRATION_ERROR_FILE'], 'w')); print('so far'); sys.exit('it is not there')"
    )
    code, report = site.run("t1", program)
    assert (code, report["code"]) == (1, 1)
    assert report["stdout"] == "so far\n"
    assert report["stderr"] == "it is not there\n"
    assert report["reported"] == {"type": "ScanMissing", "what": "no scan"}


def test_a_signal_is_told_from_an_exit_code(site: Site) -> None:
    code, report = site.run("t1", "import os; os.kill(os.getpid(), 11)")
    assert (code, report["code"]) == (139, -11)


def test_a_job_is_stopped_at_its_limit_with_all_that_it_started(site: Site) -> None:
    program = ["-c", "sleep 600 & echo $! > child; wait"]
    code, report = site.run("t1", "", executable="/bin/sh", arguments=program, duration=1.0)
    assert (code, report["reason"]) == (124, "timeout")
    assert not alive(int((site.root / "work" / "child").read_text()))


def test_of_two_starts_of_one_job_the_second_does_nothing(site: Site) -> None:
    orders = site.orders("t1", COUNT + UNTIL_GO)
    both = [site.start(orders), site.start(orders)]
    until = time.monotonic() + 60
    while all(child.poll() is None for child in both):
        assert time.monotonic() < until, "both run it"
        threading.Event().wait(0.02)
    wait_for(site.root / "work" / "count")
    (site.root / "work" / "go").touch()
    assert sorted(child.wait(timeout=60) for child in both) == [0, 76]
    assert len((site.root / "work" / "count").read_text().splitlines()) == 1
    again = site.start(orders)
    assert again.wait(timeout=60) == 0
    assert len((site.root / "work" / "count").read_text().splitlines()) == 1


def test_a_job_that_its_scheduler_starts_again_after_a_failed_node_runs_again(site: Site) -> None:
    orders = site.orders("t1", COUNT + "; import time; time.sleep(60 if not os.environ.get('AGAIN') else 0)")
    first = site.start(orders, SLURM_JOB_ID="7")
    wait_for(site.root / "work" / "count")
    first.kill()
    first.wait()
    assert site.start(orders, SLURM_JOB_ID="8").wait(timeout=60) == 76
    assert site.start(orders, SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1", AGAIN="1").wait(timeout=60) == 0
    assert site.report("t1")["reason"] == "exited"


def test_a_marker_keeps_a_job_from_beginning(site: Site) -> None:
    folder = site.root / "jobs" / "t1"
    folder.mkdir(parents=True)
    (folder / "cancel").touch()
    code, report = site.run("t1", COUNT)
    assert (code, report["reason"]) == (130, "cancelled")
    assert not (site.root / "work" / "count").exists()


def test_a_marker_stops_a_job_that_runs(site: Site) -> None:
    child = site.start(site.orders("t1", COUNT + "; import time; time.sleep(60)"))
    wait_for(site.root / "work" / "count")
    (site.root / "jobs" / "t1" / "cancel").touch()
    assert child.wait(timeout=60) == 130
    assert site.report("t1")["reason"] == "cancelled"


def test_a_program_does_not_outlive_what_looks_after_it(site: Site) -> None:
    program = "import os, time; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(60)"
    child = site.start(site.orders("t1", program))
    wait_for(site.root / "work" / "pid")
    child.kill()
    child.wait()
    pid = int((site.root / "work" / "pid").read_text())
    until = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < until, "the program goes on"
        threading.Event().wait(0.02)


def test_a_job_that_its_scheduler_tells_to_end_leaves_a_report(site: Site) -> None:
    child = site.start(site.orders("t1", COUNT + "; import time; time.sleep(60)"))
    wait_for(site.root / "work" / "count")
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == 143
    assert site.report("t1")["reason"] == "terminated"


@pytest.mark.parametrize(("exits", "reason"), [(143, "terminated"), (130, "terminated"), (0, "exited")])
def test_a_program_that_tidies_up_when_it_is_told_to_end_did_not_end_by_itself(
    site: Site, exits: int, reason: str
) -> None:
    """A scheduler tells every process of a job; so the program may be over before its runner has looked."""
    program = f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({exits}))
print(os.getpid(), file=open('pid.part', 'w'), flush=True); os.rename('pid.part', 'pid')
time.sleep(600)
"""
    child = site.start(site.orders("t1", program))
    wait_for(site.root / "work" / "pid")
    child.send_signal(signal.SIGTERM)
    os.kill(int((site.root / "work" / "pid").read_text()), signal.SIGTERM)
    assert child.wait(timeout=60) == (143 if exits else 0)
    assert (site.report("t1")["reason"], site.report("t1")["code"]) == (reason, exits)


def test_a_session_that_was_told_to_end_did_not_end_by_itself(site: Site) -> None:
    """As its runner sees it, and as its own record says."""
    program = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143));"
        " print(os.getpid(), file=open('pid.part', 'w'), flush=True); os.rename('pid.part', 'pid'); time.sleep(600)"
    )
    words = ["-m", "orchestration.science", "session", "600", "session.json", "--", sys.executable, "-c", program]
    child = site.start(site.orders("t1", "", arguments=words))
    wait_for(site.root / "work" / "pid")
    program_id = int((site.root / "work" / "pid").read_text())
    session_id = int(Path(f"/proc/{program_id}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (child.pid, session_id, program_id):
        os.kill(pid, signal.SIGTERM)
    assert child.wait(timeout=60) == 143
    assert site.report("t1")["reason"] == "terminated"
    assert json.loads((site.root / "work" / "session.json").read_text())["ended"] == "because it was told to"


STALE: list[tuple[dict[str, Any], str]] = [
    ({"path": "rec", "kind": "directory", "at_least": 2}, "has 1, besides 2 that this job did not write"),
    ({"path": "rec/0.tif"}, "was not written by this job"),
    ({"path": "rec/1.tif"}, ""),
    ({"path": "rec", "kind": "directory"}, ""),
    ({"path": "rec", "kind": "directory", "pattern": "0*"}, "has 0, besides 1"),
    ({"path": "report.json", "kind": "json"}, "was not written by this job"),
]


def test_what_an_earlier_job_left_is_no_output_of_this_one(site: Site) -> None:
    folder = site.root / "work" / "rec"
    folder.mkdir(parents=True)
    for name in ("0.tif", "1.tif", "2.tif"):
        (folder / name).write_text("old")
    (site.root / "work" / "report.json").write_text("{}")
    code, report = site.run("t1", "open('rec/1.tif', 'w').write('new')", outputs=[output for output, _ in STALE])
    assert code == 65
    for found, (_, problem) in zip(report["outputs"], STALE, strict=True):
        assert problem in found["problem"]
        assert bool(problem) == bool(found["problem"])


def test_a_job_that_could_not_begin_in_time_never_begins(site: Site) -> None:
    code, report = site.run("t1", COUNT, start_by=time.time() - 5)
    assert (code, report["reason"]) == (75, "late")
    assert not (site.root / "work" / "count").exists()


def test_programs_of_another_version_do_not_begin(site: Site) -> None:
    code, report = site.run("t1", COUNT, version="99.0")
    assert (code, report["reason"]) == (78, "outdated")
    assert "99.0 was asked for" in report["error"]


def test_a_program_that_is_not_there_is_told(site: Site) -> None:
    code, report = site.run("t1", "", executable="/no/such/program")
    assert (code, report["reason"]) == (127, "unstartable")
    assert "/no/such/program" in report["error"]


def test_hostile_words_arrive_as_they_are(site: Site) -> None:
    words = ["$(touch pwned)", "a'b\"c", "new\nline", "-rf", "ünï code", "`id`", "*"]
    program = "import json, sys; json.dump(sys.argv[1:], open('words.json', 'w'))"
    code, _ = site.run("t1", "", arguments=["-c", program, *words])
    assert code == 0
    assert json.loads((site.root / "work" / "words.json").read_text()) == words


def test_what_are_no_orders_is_told(site: Site) -> None:
    assert site.start({"folder": "x"}).wait(timeout=60) == 2
    assert "no orders" in site.log.read_text()
