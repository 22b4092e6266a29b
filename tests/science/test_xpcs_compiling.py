"""Loops as machine code: the same numbers as their Python, loaded without numba, and made anew when they must be."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from orchestration.science.xpcs.compiler import LoopUnfit
from orchestration.science.xpcs.machinecode import LoopFailed

PROGRAM = """
import sys
from pathlib import Path
from orchestration.science.cli import main

folder = Path(sys.argv[1])
for raw_format, raw, words in (
    ("nexus", "a.h5", ["-t", "Both", "--method", "dense", "--save-G2"]),
    ("imm-sparse", "a.imm", ["-t", "Both", "--method", "sparse", "--num-partial-g2", "2"]),
    ("rigaku500k", "a.bin", []),
    ("imm", "a.imm", ["--method", "sparse"]),
):
    simulating = [folder, "--name", "a", "--format", raw_format, "--frames", 64, "--photons", 0.02]
    correlating = ["-r", folder / raw, "-q", folder / "a_qmap.hdf", "-o", folder / "out", "-w", *words]
    for command in (["simulate", *simulating], ["correlate", *correlating]):
        if code := main(["xpcs", *map(str, command)]):
            sys.exit(code)
print("compiler:", "numba" in sys.modules)
"""

LOOPS = """
import numpy as np
from orchestration.science.xpcs.compiling import compiled
import {constants}

WEIGHTS = np.array([1.0, 2.0, 4.0])
FACTOR = 3


@compiled()
def added(low, high, x, pair, big, small, flag):
    numbers, out = pair
    total = 0.0
    for i in range(low, high):
        inner, _ = scaled(x[i, 0], {constants}.FACTOR)
        total += inner + WEIGHTS[i % 3] * numbers[i]
        out[i] = total if flag else -total
    return len(out), total * small, np.uint64(big) + np.uint64(1), x.flags.c_contiguous


@compiled(fastmath=True)
def scaled(value, factor):
    return value * factor, factor


@compiled()
def one(x):
    return x[0]


@compiled()
def whole(x):
    x[:] = 7


@compiled()
def divided(x, by):
    x[0] = 1 // by


@compiled()
def made(x):
    x[0] = np.zeros(len(x)).sum()


@compiled()
def given_back(x):
    return x


@compiled()
def long(steps, out):
    state = np.uint64(1)
    for _ in range(steps):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    out[0] = state
"""


class Modules:
    """Writes modules with loops, and imports them as a new process would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, text: str = LOOPS, *, constants: str = "FACTOR = 2.5") -> ModuleType:
        names = "loops_of_test", "constants_of_loops"
        for name, content in zip(names, (text.replace("{constants}", names[1]), constants), strict=True):
            (self.folder / f"{name}.py").write_text(content, encoding="utf-8")
            sys.modules.pop(name, None)
        # Python looks at whole seconds; which of two texts of a second it has, it cannot tell.
        for kept in self.folder.glob("__pycache__/*.pyc"):
            kept.unlink()
        importlib.invalidate_caches()
        return importlib.import_module(names[0])

    def start(self, program: str, **settings: str) -> subprocess.Popen[str]:
        """In a process of its own, in which warnings are errors."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(self.folder), *sys.path])} | settings
        words = [sys.executable, "-W", "error", "-c", f"import numpy, loops_of_test as loops; {program}"]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kept(self, name: str, folder: Path | None = None) -> list[Path]:
        return sorted((folder or self.folder / "__pycache__").glob(f"loops_of_test.{name}-*.loop"))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Modules:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return Modules(tmp_path)


def refuse_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(loop: Any, _arguments: object) -> None:
        raise AssertionError(f"{loop.name} is compiled again")

    monkeypatch.setattr("orchestration.science.xpcs.compiler.compile_loop", refuse)


def test_what_is_compiled_already_runs_without_what_it_takes_to_compile(tmp_path: Path) -> None:
    """In a process of its own, for dense frames and for events: simulated, correlated, and packed."""
    for _ in range(2):
        words = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "compiler: False"


@pytest.mark.parametrize(
    ("layout", "kind"),
    [("C", "u1"), ("C", "f4"), ("F", "i2"), ("strided", "f8"), ("read-only", "f4"), ("mapped", "u1")],
)
def test_a_loop_computes_what_its_python_does(modules: Modules, tmp_path: Path, layout: str, kind: str) -> None:
    loops = modules.load()
    x = np.arange(24, dtype=kind).reshape(12, 2)
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "strided":
        x = np.repeat(x, 3, axis=0)[::3]
    elif layout == "read-only":
        x.flags.writeable = False
    elif layout == "mapped":
        mapped = np.memmap(tmp_path / "x", dtype=kind, mode="w+", shape=x.shape)
        mapped[:] = x
        x = mapped
    numbers = np.linspace(0, 1, 12, dtype=np.float32)
    found, expected = np.zeros(12), np.zeros(12)
    for flag in (True, np.False_):
        arguments = 2, 12, x, (numbers, found), np.uint64(2**64 - 2), np.float32(0.5), flag
        answer = loops.added(*arguments)
        right = loops.added.function(*arguments[:3], (numbers, expected), *arguments[4:])
        assert answer == pytest.approx(right, rel=1e-6)
        assert [type(value) for value in answer] == [int, float, int, bool]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "value", [np.int64(-(2**63)), np.uint64(2**64 - 1), np.float32(0.1), np.float64(0.1), np.int32(-5), np.uint32(5)]
)
def test_a_loop_returns_a_number_as_it_is(modules: Modules, value: np.number[Any]) -> None:
    assert modules.load().one(np.array([value])) == value


def test_an_array_of_nothing_and_a_part_of_one(modules: Modules) -> None:
    loops = modules.load()
    assert loops.whole(np.empty(0)) is None
    x = np.zeros((4, 6), dtype=np.int32)
    loops.whole(x[1])
    loops.whole(x[:, 2])
    expected = np.zeros((4, 6), dtype=np.int32)
    expected[1], expected[:, 2] = 7, 7
    np.testing.assert_array_equal(x, expected)


def test_a_loop_is_loaded_by_the_next_process(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    assert modules.load().one(np.array([3])) == 3
    refuse_to_compile(monkeypatch)
    assert modules.load(f"# a line more\n{LOOPS}").one(np.array([4])) == 4
    with pytest.raises(AssertionError, match="one is compiled again"):
        modules.load().one(np.array([4.0]))


@pytest.mark.parametrize(
    ("text", "constants", "expected"),
    [
        (LOOPS, "FACTOR = 5.0", 2.0 * 5.0 + 3.0),
        (LOOPS.replace("return value * factor", "return value - factor"), "FACTOR = 2.5", 2.0 - 2.5 + 3.0),
        (LOOPS.replace("WEIGHTS = np.array([1.0", "WEIGHTS = np.array([6.0"), "FACTOR = 2.5", 2.0 * 2.5 + 6.0 * 3.0),
    ],
)
def test_a_loop_is_made_anew_when_what_it_takes_from_elsewhere_changes(
    modules: Modules, text: str, constants: str, expected: float
) -> None:
    """numba would look at the file of the loop alone, and this one has a constant from another."""

    def total(loops: ModuleType) -> float:
        out = np.zeros(1)
        loops.added(0, 1, np.full((1, 1), 2.0), (np.full(1, 3.0), out), 0, 1.0, np.True_)
        return float(out[0])

    assert total(modules.load()) == pytest.approx(2.0 * 2.5 + 3.0)
    assert total(modules.load(text, constants=constants)) == pytest.approx(expected)
    assert len(modules.kept("added")) == 1


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-9], lambda old: old[:-9] + bytes(9), lambda old: b"", bytes.swapcase]
)
def test_damaged_code_is_never_run(
    modules: Modules, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert modules.load().one(np.array([3])) == 3
    (kept,) = modules.kept("one")
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    assert modules.load().one(np.array([4])) == 4
    # It was made anew, and is whole.
    assert len(kept.read_bytes()) == pytest.approx(len(good), abs=40)
    refuse_to_compile(monkeypatch)
    assert modules.load().one(np.array([5])) == 5


def test_where_the_folder_cannot_be_written_the_users_own_is(modules: Modules) -> None:
    modules.folder.joinpath("__pycache__").write_text("no folder", encoding="utf-8")
    assert modules.load().one(np.array([3])) == 3
    assert len(modules.kept("one", modules.folder / "cache" / "beamline" / "loops")) == 1


def test_where_nothing_can_be_written_it_says_so_and_computes(
    modules: Modules, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modules.folder.joinpath("file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(modules.folder / "file"))
    with caplog.at_level(logging.WARNING):
        assert modules.load().one(np.array([3])) == 3
    assert "let NUMBA_CACHE_DIR name a folder that can be written" in caplog.text


def test_a_folder_can_be_named(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(modules.folder / "named"))
    assert modules.load().one(np.array([3])) == 3
    assert len(modules.kept("one", modules.folder / "named")) == 1
    assert modules.kept("one") == []


def test_a_loop_that_could_not_run_alone_is_refused(modules: Modules) -> None:
    loops = modules.load()
    with pytest.raises(LoopUnfit, match=r"loops_of_test\.made makes an array.* Next: give it the array"):
        loops.made(np.zeros(3))
    with pytest.raises(LoopUnfit, match=r"loops_of_test\.given_back returns .* Next: let it write into"):
        loops.given_back(np.zeros(3))


def test_a_loop_that_ends_early_is_no_result(modules: Modules) -> None:
    loops = modules.load()
    x = np.zeros(1, dtype=np.int64)
    loops.divided(x, 1)
    assert x[0] == 1
    with pytest.raises(LoopFailed, match=r"loops_of_test\.divided ended early.* Next: set NUMBA_DISABLE_JIT=1"):
        loops.divided(x, 0)


@pytest.mark.parametrize(("value", "why"), [("text", "str"), (None, "NoneType"), ([1.0], "list"), (2**63, "64 bits")])
def test_what_a_loop_cannot_take_is_refused(modules: Modules, value: object, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        modules.load().one(value)


def test_a_function_inside_another_is_refused(modules: Modules) -> None:
    outer = "def outer(inner):\n    @compiled()\n    def loop(x):\n        return x[0] + inner\n    return loop\n"
    loop = modules.load(f"{LOOPS}\n\n{outer}").outer(3)
    with pytest.raises(TypeError, match=r"is no function of a module\. Next:"):
        loop(np.zeros(1))


def test_others_go_on_while_a_loop_runs(modules: Modules) -> None:
    loops, out, seen = modules.load(), np.zeros(1, dtype=np.uint64), 0
    loops.long(1, out)
    thread = threading.Thread(target=loops.long, args=(500_000_000, out))
    thread.start()
    while thread.is_alive():
        seen += 1
    thread.join()
    # With the lock of the interpreter held, this one would have waited for the whole loop, and then seen it gone.
    assert seen > 100


def test_many_threads_make_a_loop_once(modules: Modules) -> None:
    loops, found = modules.load(), []
    together = threading.Barrier(8)

    def work(number: int) -> None:
        together.wait()
        found.append(loops.one(np.array([number])))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(8))
    assert len(modules.kept("one")) == 1


def test_processes_that_make_the_same_loop_do_not_spoil_it(modules: Modules) -> None:
    modules.load()
    program = "print(loops.one(numpy.array([5])), loops.one(numpy.array([6.5])))"
    running = [modules.start(program) for _ in range(4)]
    assert [process.communicate()[0] for process in running] == ["5 6.5\n"] * 4
    assert len(modules.kept("one")) == 2


def test_a_process_that_dies_while_it_keeps_code_leaves_none_that_counts(modules: Modules) -> None:
    modules.load()
    last = "import os, pathlib; pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9); "
    process = modules.start(f"{last} print(loops.one(numpy.array([5])))")
    assert process.communicate() == ("", "")
    assert process.returncode == -9
    assert modules.kept("one") == []
    assert modules.load().one(np.array([5])) == 5
    assert len(modules.kept("one")) == 1


def test_code_of_one_name_is_told_apart(modules: Modules) -> None:
    """As in a notebook that loads a changed module anew: the code from the store, and that which is made now."""
    modules.load()
    assert modules.start("print(loops.one(numpy.array([5])))").communicate()[0] == "5\n"
    assert modules.load().one(np.array([5])) == 5
    assert modules.load(LOOPS.replace("return x[0]", "return x[0] + 1")).one(np.array([5])) == 6


def test_numba_itself_still_works_beside_loops() -> None:
    """Others in this process may use it, with arrays that it makes and frees."""
    program = """
import numba, numpy
from orchestration.science.xpcs.words import Words, sort_frames

@numba.njit
def made(n):
    total = 0.0
    for i in range(n):
        total += numpy.ones(i).sum()
    return total

before = made(10)
words = numpy.arange(100, dtype=numpy.uint64)[::-1].copy()
sort_frames(words, words.copy())

@numba.njit
def made_after(n):
    return numpy.ones(n)[::2].copy().sum()

print(before, made(11), made_after(10), int(words[0]))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "45.0 55.0 5.0 99\n"), answer.stderr


def test_for_a_debugger_a_loop_is_its_python(modules: Modules) -> None:
    modules.load()
    process = modules.start("loops.divided(numpy.zeros(1), 0)", NUMBA_DISABLE_JIT="1")
    said = process.communicate()[1]
    assert process.returncode == 1
    assert "ZeroDivisionError" in said
    assert "x[0] = 1 // by" in said
