"""Many datasets in one job: each has its outcome, whatever became of it, and none is in the way of another."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from xpcs_bench import Bench, Outcome, make

from orchestration.science.errors import OutputFailed, ParametersInvalid, ScanTruncated, ScienceError, typed
from orchestration.science.running.outputs import CONTENT_LIMIT
from orchestration.science.xpcs import documents
from orchestration.science.xpcs.cli import xpcs
from orchestration.science.xpcs.fitting import fitting
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.parameters import Parameters
from orchestration.science.xpcs.simulate import write_qmap

DESCRIPTION = MovieDescription(rows=24, columns=24, frames=64, photons=0.3, seed=2)
OTHER_DETECTOR = MovieDescription(rows=24, columns=32, frames=64)

Told = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make(tmp_path_factory.mktemp("bench"), DESCRIPTION, rings=2, beamstop=2.0)


@pytest.fixture
def dataset(made: Bench, tmp_path: Path) -> Callable[..., Told]:
    """Makes the task of a dataset of its own."""

    def task(name: str, **more: object) -> Told:
        folder = tmp_path / "data" / name
        shutil.copytree(made.folder, folder)
        out = tmp_path / "out" / name
        places = {"raw": folder / "a.h5", "qmap": folder / "qmap.hdf", "output": out, "outcome": out / "files.json"}
        return {"name": name, **{key: str(path) for key, path in places.items()}, **more}

    return task


@pytest.fixture(scope="module")
def drawn(made: Bench, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The task of a dataset that has been correlated and drawn."""
    out = tmp_path_factory.mktemp("drawn")
    places = {"raw": made.raw, "qmap": made.qmap, "output": out, "outcome": out / "files.json"}
    task = {"name": "a", "extra": {"cycle": "2026-1"}, "fit": "stretched", **{key: str(places[key]) for key in places}}
    run(task, more=())
    return task


def run(*tasks: Told, more: tuple[str, ...] = ("--no-plots",)) -> None:
    xpcs.main(args=["batch", "--tasks", json.dumps(tasks), *more], standalone_mode=False)


def outcome(task: Told) -> Told:
    found: Told = json.loads(Path(task["outcome"]).read_text())
    return found


def listing(task: Told) -> list[str]:
    """All files in the folder of results, hidden ones too."""
    folder = Path(task["output"])
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_results_are_those_of_correlate(dataset: Callable[..., Told], made: Bench, tmp_path: Path) -> None:
    tasks = [dataset("a"), dataset("b", options={"avg_frame": 2, "type": "Both", "dq-selection": "1", "suffix": "x"})]
    run(*tasks)
    alone = Bench(tmp_path / "data" / "b", tmp_path / "data" / "b" / "a.h5", made.frames)
    parameters = Parameters(type="Both", dq_selection="1", frames=Selection(average=2))
    for task, right in ((tasks[0], made.correlate()), (tasks[1], alone.correlate(parameters, suffix="x"))):
        found, told = Outcome.of(Path(task["output"]) / right.path.name), outcome(task)
        assert found.values.keys() == right.values.keys()
        for name in [name for name in right.values if "/config/" not in name and name != "rawdata_path"]:
            np.testing.assert_array_equal(found[name], right[name])
        assert (told["state"], told["error"], told["result"]) == ("done", None, str(found.path))
        assert told["receipt"] == found.receipt
        assert told["receipt"]["parameters"] == right.receipt["parameters"]
        assert [each["name"] for each in told["files"]] == listing(task)[:2]
        assert told["metadata"] is None
        assert told["seconds"]["correlate"] > 0.0 == told["seconds"]["plot"]


def test_pictures_are_drawn_and_every_file_is_listed(drawn: Told) -> None:
    task = drawn
    told, folder = outcome(task), Path(task["output"])
    assert [each["name"] for each in told["files"]] == [name for name in listing(task) if name != "files.json"]
    assert "resources/a_overview.png" in listing(task)
    for each in told["files"]:
        content = (folder / each["name"]).read_bytes()
        assert (each["size"], each["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert told["metadata"] == json.loads((folder / "resources" / "metadata.json").read_text())
    described = told["metadata"]["project_metadata"]
    assert (described["cycle"], described["fits"]["model"]) == ("2026-1", "stretched")
    assert [tool["name"].rpartition(" ")[2] for tool in described["tools"]] == ["correlate", "plot"]
    assert told["seconds"]["plot"] > 0.0


def spoilt(dataset: Callable[..., Told]) -> dict[str, Told]:
    corrupt, partless, shaped, bins, nowhere = map(dataset, ("corrupt", "partless", "shaped", "bins", "nowhere"))
    os.truncate(corrupt["raw"], 5000)
    for number in (0, 1, 2, 4, 5):
        Path(partless["raw"]).with_name(f"a.bin.00{number}").write_bytes((1 << 16 | 1).to_bytes(8, "little"))
    partless["raw"] = str(Path(partless["raw"]).with_name("a.bin.000"))
    write_qmap(Path(shaped["qmap"]), OTHER_DETECTOR, rings=2)
    bins["options"] = {"type": "Twotime", "dq_selection": "1,9"}
    nowhere["output"] = f"{nowhere['raw']}/out"
    return {
        "ScanTruncated": corrupt,
        "ScanMissing": partless,
        "QmapInvalid": shaped,
        "ParametersInvalid": bins,
        "OutputFailed": nowhere,
    }


def test_a_dataset_that_fails_says_why_and_leaves_nothing_and_the_others_are_done(
    dataset: Callable[..., Told], capsys: pytest.CaptureFixture[str]
) -> None:
    bad, first, last = spoilt(dataset), dataset("first"), dataset("last")
    run(first, *bad.values(), last)
    printed = capsys.readouterr().err
    for kind, task in bad.items():
        told = outcome(task)
        assert (told["state"], told["error"]["type"]) == ("failed", kind), told
        assert (told["result"], told["receipt"], told["files"]) == (None, None, [])
        assert told["error"]["what"]
        assert told["error"]["next_step"]
        assert f"{task['name']}: {told['error']['what']}" in printed
        if kind != "OutputFailed":
            assert listing(task) == ["files.json"]
    assert outcome(bad["ScanMissing"])["error"]["where"].endswith("a.bin.003")
    for task in (first, last):
        assert outcome(task)["state"] == "done"
        assert listing(task) == ["a_results.hdf", "a_results.json", "files.json"]


def test_a_dataset_that_fails_later_keeps_its_result_and_says_that_it_failed(dataset: Callable[..., Told]) -> None:
    task = dataset("a")
    run(task)
    before = (Path(task["output"]) / "a_results.hdf").read_bytes()
    os.truncate(task["raw"], 5000)
    run(task)
    assert (Path(task["output"]) / "a_results.hdf").read_bytes() == before
    assert (outcome(task)["state"], outcome(task)["result"]) == ("failed", None)


def test_pictures_that_fail_leave_the_result_and_older_ones_do_not_count(dataset: Callable[..., Told]) -> None:
    task = dataset("a")
    resources = Path(task["output"]) / "resources"
    resources.mkdir(parents=True)
    (resources / "metadata.json").write_text("{}")
    with h5py.File(Path(task["raw"]).with_name("a_metadata.hdf"), "r+") as file:
        del file["entry/instrument/detector_1/frame_time"]
    run(task, more=())
    told = outcome(task)
    assert (told["state"], told["error"]["type"]) == ("failed", "ResultInvalid")
    assert told["result"] == str(Path(task["output"]) / "a_results.hdf")
    assert [each["name"] for each in told["files"]] == ["a_results.hdf", "a_results.json"]
    assert told["metadata"] is None
    assert not (resources / "metadata.json").exists()


def test_an_outcome_that_cannot_be_written_stops_none_and_is_told_at_the_end(dataset: Callable[..., Told]) -> None:
    first, second = dataset("first"), dataset("second")
    Path(first["outcome"]).mkdir(parents=True)
    with pytest.raises(OutputFailed) as raised:
        run(first, second)
    assert raised.value.where == first["outcome"]
    assert outcome(second)["state"] == "done"


def test_it_stops_at_the_first_failure_if_it_is_to(dataset: Callable[..., Told]) -> None:
    first, second = dataset("first"), dataset("second")
    os.truncate(first["raw"], 5000)
    with pytest.raises(ScanTruncated):
        run(first, second, more=("--no-plots", "--stop-at-failure"))
    assert outcome(first)["state"] == "failed"
    assert not Path(second["output"]).exists()


def test_it_tells_how_far_it_is(
    dataset: Callable[..., Told],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ORCHESTRATION_PROGRESS_FILE", str(tmp_path / "progress.jsonl"))
    tasks = [dataset("a"), dataset("b")]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    xpcs.main(args=["batch", "--tasks", f"@{tmp_path}/tasks.json", "--no-plots", "-v"], standalone_mode=False)
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [(line["done"], line["total"], line["note"]) for line in lines] == [(0, 2, "a"), (1, 2, "b"), (2, 2, "")]
    printed = capsys.readouterr()
    assert "2/2 datasets" in printed.err
    assert printed.out.split() == [task["outcome"] for task in tasks]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "blue"}, "task 'b': colour is not known"),
        ({"options": {"avg": 2}}, "task 'b': 'avg' is not an option"),
        ({"options": {"raw": "x"}}, "task 'b': 'raw' is not an option"),
        ({"options": {"avg_frame": 2.5}}, "task 'b': avg_frame cannot be 2.5"),
        ({"options": {"avg_frame": 0}}, "task 'b': average is 0"),
        ({"options": {"type": "twotime"}}, "task 'b': type: 'twotime'"),
        ({"options": {"gpu_id": -3}}, "task 'b': gpu_id is -3"),
        ({"options": []}, "options must be a JSON object"),
        ({"fit": "double"}, "fit is 'double'"),
        ({"extra": {"colour": 1}}, "task 'b': extra metadata"),
        ({"qmap": None}, "qmap is no text"),
        ({"name": "a"}, "tasks 'a', 'a' have the same name"),
    ],
)
def test_a_task_that_cannot_be_meant_is_named_before_anything_is_done(
    dataset: Callable[..., Told], change: Told, words: str
) -> None:
    good, bad = dataset("a"), dataset("b") | change
    with pytest.raises(ParametersInvalid) as raised:
        run(good, bad)
    assert words in raised.value.what
    assert not Path(good["output"]).exists()


@pytest.mark.parametrize("key", ["outcome", "output"])
def test_tasks_in_each_others_way_are_refused(dataset: Callable[..., Told], key: str) -> None:
    first, second = dataset("a"), dataset("b")
    same = str(Path(first["output"]) / ".." / "a" / Path(first[key]).name) if key == "outcome" else first[key]
    with pytest.raises(ParametersInvalid, match=f"tasks 'a', 'b' have the same {key}"):
        run(first, second | {key: same})


@pytest.mark.parametrize(("text", "words"), [("[]", "at least one"), ("{", "cannot be read"), ("@none", "cannot be")])
def test_a_list_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(ParametersInvalid, match=words):
        xpcs.main(args=["batch", "--tasks", text], standalone_mode=False)


def test_a_long_outcome_is_shortened_to_what_is_reported_with_a_job(drawn: Told) -> None:
    told = outcome(drawn)
    assert fitting(told) == told
    described = told["metadata"]["project_metadata"]
    described["fits"]["bins"] *= 200
    assert len(documents.packed(told)) > CONTENT_LIMIT
    short: Any = fitting(told)
    assert len(documents.packed(short)) <= CONTENT_LIMIT
    assert short.pop("shortened") is True
    assert short["metadata"]["project_metadata"]["fits"]["bins"] == []
    assert short["metadata"]["project_metadata"]["q_bins"] == described["q_bins"]
    described["title"] = "x" * CONTENT_LIMIT
    assert fitting(told)["metadata"] is None
    assert fitting(told)["receipt"] == told["receipt"]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MemoryError(), OutputFailed, "memory ran out"),
        (PermissionError(13, "Permission denied", "/data"), OutputFailed, "Permission denied (/data)"),
        (KeyError("x"), ScienceError, "KeyError: 'x'"),
    ],
)
def test_every_exception_becomes_one_that_people_can_read(
    error: Exception, kind: type[ScienceError], words: str
) -> None:
    found = typed(error)
    assert type(found) is kind
    assert words in found.sentence


def test_a_batch_that_is_told_to_stop_stops_and_leaves_what_is_whole(
    dataset: Callable[..., Told], tmp_path: Path
) -> None:
    """In the middle of the second of three."""
    first, last, folder = dataset("first"), dataset("last"), tmp_path / "long"
    folder.mkdir()
    long = make(folder, MovieDescription(rows=24, columns=24, frames=4000, photons=0.3), rings=2, beamstop=2.0)
    second = dataset("second", options={"type": "Twotime"}) | {"raw": str(long.raw), "qmap": str(long.qmap)}
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([first, second, last]))
    words = [sys.executable, "-m", "orchestration.science", "xpcs", "batch", "--no-plots", "--tasks", f"@{tasks}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = threading.Event()
        while process.poll() is None and not any(Path(second["output"]).glob(".reconstructing-*/result.hdf")):
            until.wait(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60.0)
    assert process.returncode == 130, err
    assert out == ""
    assert "told to stop" in err
    assert outcome(first)["state"] == "done"
    with h5py.File(Path(first["output"]) / "a_results.hdf", "r") as file:
        assert "/xpcs/multitau/normalized_g2" in file
    assert listing(second) == []
    assert not Path(last["output"]).exists()
