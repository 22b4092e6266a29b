"""Frames per second, memory and error of our photon correlation and of boost_corr's, on the same files in the same run.

    python benchmarks/xpcs.py [--peer-python /path/to/venv/bin/python] [--frames-scale 1] [--repeats 3] [--json]

Each program runs as people run it, from raw file to result file, in a process of its own on all processors. The first
run of each is not counted, for what it compiles or loads; in the second one its memory is looked at, which takes time
from it; the others are timed, those of the two in turn. The peer is boost_corr in its own interpreter, without which
its columns are null. Errors of g2 are those of one dynamic bin against the definition in double precision.

boost_corr fills up to 36 GB, whatever the machine has, as soon as it is given 2048 frames of 512 x 512. Where it cannot
have them, both programs are given one frame less, with which 18 GB do.

The floor is what no program can do without: dense frames have to be read and multiplied twelve times (eight lags of
level 0, four of each level above, each of which has half the frames), events have to be read, and the products of
two-time functions to be made, each at the speed that this machine shows in this run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
SIZE = 512
PIXELS = SIZE * SIZE
STAGES = ("read", "take", "survey", "sort", "spool", "multitau", "twotime", "g2")
"""Of ours, what boost_corr counts as correlating."""
IMM_HEADER = 1024
IMM_EVENTS = struct.calcsize("ii32s16si16siiiiiiiiiiiiiddii")
"""Where the header of a frame has their number."""
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""What is installed has its bytecode, and a source tree keeps it from the first run on."""
PEER_BYTES = 36e9
FEW = 2047
"""Frames with which boost_corr takes half of that."""
BYTES_PER_EVENT = 6
OPERATIONS_PER_COUNT = 24
"""Twelve products and as many sums."""


@dataclass(frozen=True)
class Case:
    name: str
    photons: float
    frames: int
    kind: str = "Multitau"
    raw_format: str = "imm-sparse"

    @property
    def options(self) -> list[str]:
        return ["-t", self.kind, *(["-d", "1-3"] if self.kind == "Twotime" else [])]

    @property
    def peer_options(self) -> list[str]:
        """It makes two-time functions of cropped frames alone, and ends in an error with others."""
        return ["--crop-ratio-threshold", "1"] if self.kind == "Twotime" else []


CASES = (
    Case("dense", 0.5, 4096, raw_format="nexus"),
    Case("sparse_0.001", 0.001, 8192),
    Case("sparse_0.01", 0.01, 8192),
    Case("sparse_0.1", 0.1, 4096),
    Case("twotime", 0.5, 4096, kind="Twotime", raw_format="nexus"),
)


@dataclass(frozen=True)
class Files:
    raw: Path
    qmap: Path
    frames: int


def make(case: Case, folder: Path, frames: int) -> Files:
    """The movie of a case."""
    from orchestration.science.xpcs.movie import MovieDescription
    from orchestration.science.xpcs.simulate import write_metadata, write_qmap, write_raw

    raw = folder / ("movie.h5" if case.raw_format == "nexus" else "movie.imm")
    description = MovieDescription(rows=SIZE, columns=SIZE, frames=frames, photons=case.photons)
    write_raw(raw, description, case.raw_format)  # type: ignore[arg-type]
    write_metadata(folder / "movie_metadata.hdf", description)
    write_qmap(folder / "qmap.hdf", description, rings=9, sectors=3)
    return Files(raw, folder / "qmap.hdf", frames)


class RunFailed(Exception):
    """Raised when a program fails; with -9, the machine had no memory left."""


@dataclass(frozen=True)
class Run:
    seconds: float
    correlating: float
    """Seconds of `seconds`, as the program itself says: from the first frame to the last, without its start."""
    peak_mb: float
    """0 if it was not looked at."""
    result: Path


def run(command: list[str], files: Files, case: Case, out: Path, *, look: bool = False) -> Run:
    """One run of a program with boost_corr's options; it prints the path of its result last."""
    words = [*command, "-r", str(files.raw), "-q", str(files.qmap), "-o", str(out), "-w", *case.options]
    began, peak = time.perf_counter(), 0.0
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=_ENVIRONMENT
    ) as process:
        while look and process.poll() is None:
            peak = max(peak, _tree_memory(process.pid))
            time.sleep(0.02)
        printed, problem = process.communicate()
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        about = f", at {peak / 2**20:.0f} MB" if look else ""
        raise RunFailed(f"{' '.join(words)} ended with {process.returncode}{about}:\n{problem[-2000:]}")
    result = Path(printed.strip().splitlines()[-1])
    return Run(seconds, _correlating(result, problem), peak / 2**20, result)


def _correlating(result: Path, said: str) -> float:
    receipt = result.with_suffix(".json")
    if receipt.exists():
        stages = json.loads(receipt.read_text(encoding="utf-8"))["seconds"]
        return float(sum(seconds for name, seconds in stages.items() if name in STAGES))
    found = re.findall(r"correlation finished in ([0-9.]+) ?s", said)
    return float(found[-1]) if found else float("nan")


def _tree_memory(pid: int) -> float:
    """Bytes of a process and its children: readers in processes of their own are a part of a program's memory."""
    pids, total = [pid], 0.0
    while pids:
        one = pids.pop()
        try:
            pids += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


@dataclass
class Program:
    """One of the two, on the files of a case."""

    command: list[str]
    files: Files
    case: Case
    folder: Path
    runs: list[Run]
    """Those that are timed."""
    peak_mb: float

    @classmethod
    def warm(cls, command: list[str], files: Files, case: Case, folder: Path) -> Program:
        """After the two runs that are not timed."""
        run(command, files, case, folder)
        return cls(command, files, case, folder, [], run(command, files, case, folder, look=True).peak_mb)

    def time(self) -> None:
        self.runs.append(run(self.command, self.files, self.case, self.folder))

    @property
    def seconds(self) -> float:
        return statistics.median(each.seconds for each in self.runs)

    @property
    def error(self) -> float | None:
        return error(self.runs[-1].result, self.files) if self.case.kind == "Multitau" else None


# ----- the definition -------------------------------------------------------------------------------------------------


def error(result: Path, files: Files) -> float:
    """The largest difference of g2 of the smallest dynamic bin from the definition, at lags with at least 16 pairs."""
    with h5py.File(files.qmap, "r") as file:
        dynamic = file["qmap/dynamic_roi_map"][()].ravel().astype(int)
        static = file["qmap/static_roi_map"][()].ravel().astype(int)
    number = int(np.argmin(np.bincount(dynamic)[1:])) + 1
    pixels = np.flatnonzero(dynamic == number)
    series = _series(files, pixels)
    frames = len(series)
    wanted = []
    for level, distance in _lags(frames):
        values = series[: (frames >> level) << level].reshape(frames >> level, 1 << level, -1).sum(axis=1)
        earlier, later = values[:-distance], values[distance:]
        parts = [static[pixels] == part for part in np.unique(static[pixels])]
        both, first, second = (earlier * later).mean(axis=0), earlier.mean(axis=0), later.mean(axis=0)
        g2 = np.mean([both[part].mean() / (first[part].mean() * second[part].mean()) for part in parts])
        wanted.append((len(earlier), g2))
    with h5py.File(result, "r") as file:
        found = file["xpcs/multitau/normalized_g2"][:, number - 1]
    many = np.array([terms >= 16 for terms, _ in wanted])
    return float(np.abs(found - np.array([g2 for _, g2 in wanted]))[many].max())


def _lags(frames: int) -> list[tuple[int, int]]:
    found = [(0, distance) for distance in range(1, 5)]
    level = 0
    while frames >> level > 5:
        found += [(level, distance) for distance in range(5, 9) if distance < frames >> level]
        level += 1
    return found


def _series(files: Files, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Frames of some pixels, each divided by the mean of the whole frame; read without our readers."""
    frames = files.frames
    out, sums = np.zeros((frames, len(pixels))), np.zeros(frames)
    if files.raw.suffix == ".h5":
        with h5py.File(files.raw, "r") as file:
            for first in range(0, frames, 256):
                block = file["entry/data/data"][first : first + 256].reshape(-1, PIXELS)
                out[first : first + 256], sums[first : first + 256] = block[:, pixels], block.sum(axis=1)
    else:
        place = np.full(PIXELS, -1)
        place[pixels] = np.arange(len(pixels))
        with files.raw.open("rb") as file:
            for frame in range(frames):
                (events,) = struct.unpack_from("I", file.read(IMM_HEADER), IMM_EVENTS)
                pixel, count = np.fromfile(file, "<i4", events), np.fromfile(file, "<i2", events)
                sums[frame] = count.sum()
                inside = place[pixel] >= 0
                out[frame, place[pixel[inside]]] = count[inside]
    sums[sums == 0] = PIXELS
    return np.asarray(out / (sums / PIXELS)[:, None])


# ----- the floor ------------------------------------------------------------------------------------------------------


@numba.njit(cache=True, fastmath=True)
def _multiply(x, rounds):  # type: ignore[no-untyped-def]
    a = b = c = d = np.float32(0.0)
    for _ in range(rounds):
        for i in range(0, len(x) - 3, 4):
            a += x[i] * x[i]
            b += x[i + 1] * x[i]
            c += x[i + 2] * x[i]
            d += x[i + 3] * x[i]
    return a + b + c + d


@dataclass(frozen=True)
class Machine:
    """What it can do with all its processors."""

    bytes_per_second: float
    """Read."""
    operations_per_second: float
    """Of single precision, in compiled loops."""
    matrix_operations_per_second: float

    @classmethod
    def here(cls) -> Machine:
        big = np.ones(2**27, dtype=np.float32)
        reading = min(_timed(lambda: big.sum()) for _ in range(3))
        few = np.ones(2048, dtype=np.float32)
        _multiply(few, 1)
        rounds = 20_000
        multiplying = min(_timed(lambda: _multiply(few, rounds)) for _ in range(3))
        square = np.ones((2048, 2048), dtype=np.float32)
        product = min(_timed(lambda: square @ square) for _ in range(3))
        processors = len(os.sched_getaffinity(0))
        return cls(big.nbytes / reading, processors * 2 * 2048 * rounds / multiplying, 2 * 2048**3 / product)

    def floor(self, case: Case, files: Files) -> float:
        """Seconds."""
        frames = files.frames
        counts = PIXELS * frames
        if case.kind == "Twotime":
            with h5py.File(files.qmap, "r") as file:
                pixels = np.isin(file["qmap/dynamic_roi_map"][()], (1, 2, 3)).sum()
            products = frames**2 * float(pixels)  # half of them, of two operations each
            return 2 * counts / self.bytes_per_second + products / self.matrix_operations_per_second
        if case.name == "dense":
            return max(2 * counts / self.bytes_per_second, OPERATIONS_PER_COUNT * counts / self.operations_per_second)
        return BYTES_PER_EVENT * counts * case.photons / self.bytes_per_second


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ----- the table ------------------------------------------------------------------------------------------------------


def measure(case: Case, machine: Machine, options: argparse.Namespace) -> dict[str, Any]:
    frames = max(64, int(case.frames * options.frames_scale))
    if options.peer_python and case.kind == "Multitau" and _available() < PEER_BYTES:
        frames = min(frames, FEW)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = make(case, folder, frames)
        ours = [sys.executable, "-m", "orchestration.science", "xpcs", "correlate", "--no-checksums"]
        theirs = [options.peer_python, "-m", "boost_corr.cli", "-v", *case.peer_options]
        own, peer, failed = Program.warm(ours, files, case, folder / "ours"), None, {}
        if options.peer_python:
            try:
                peer = Program.warm(theirs, files, case, folder / "peer")
            except RunFailed as failure:
                failed = {"boost_corr_failed": str(failure)}
        for _ in range(options.repeats):
            own.time()
            if peer is not None:
                peer.time()
        return _found(own, machine) | ({} if peer is None else _compared(own, peer)) | failed


def _found(own: Program, machine: Machine) -> dict[str, Any]:
    receipt = json.loads(own.runs[-1].result.with_suffix(".json").read_text(encoding="utf-8"))
    return {
        "frames": own.files.frames,
        "seconds": own.seconds,
        "frames_per_second": own.files.frames / own.seconds,
        "speedup_vs_boost_corr": None,
        "correlating_speedup_vs_boost_corr": None,
        "ratio_to_floor": own.seconds / machine.floor(own.case, own.files),
        "peak_mb": own.peak_mb,
        "max_abs_g2_error": own.error,
        "method": receipt["method"],
        "stages_s": receipt["seconds"],
    }


def _compared(own: Program, peer: Program) -> dict[str, Any]:
    """Ratios are medians of those of runs that followed each other: the speed of a machine changes by the minute.

    What boost_corr counts as correlating has no two-time function in it: it makes them while it writes.
    """
    pairs = list(zip(own.runs, peer.runs, strict=True))
    correlating = statistics.median(theirs.correlating / ours.correlating for ours, theirs in pairs)
    return {
        "speedup_vs_boost_corr": statistics.median(theirs.seconds / ours.seconds for ours, theirs in pairs),
        "correlating_speedup_vs_boost_corr": correlating if own.case.kind == "Multitau" else None,
        "boost_corr_seconds": peer.seconds,
        "boost_corr_peak_mb": peer.peak_mb,
        "boost_corr_max_abs_g2_error": peer.error,
    }


def _available() -> float:
    """Bytes of memory that a program can have."""
    found = re.search(r"MemAvailable: +([0-9]+) kB", Path("/proc/meminfo").read_text())
    return 1024.0 * int(found[1]) if found else float("inf")


def show(name: str, row: dict[str, Any]) -> None:
    speedup = row["speedup_vs_boost_corr"]
    alone = row["correlating_speedup_vs_boost_corr"]
    about = "" if alone is None else f", {alone:.1f} x without start and files"
    peer = "no peer" if speedup is None else f"{speedup:.1f} x boost_corr{about} ({row['boost_corr_peak_mb']:.0f} MB)"
    peer = row.get("boost_corr_failed", peer)
    wrong = row["max_abs_g2_error"]
    error_text = "" if wrong is None else f", g2 within {wrong:.1e}"
    print(
        f"{name:<14}{row['frames_per_second']:>9.0f} frames/s, {peer}, {row['ratio_to_floor']:.1f} x the floor, "
        f"{row['peak_mb']:.0f} MB{error_text} ({row['method']})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has boost_corr")
    parser.add_argument("--frames-scale", type=float, default=1.0, help="of all cases' numbers of frames")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[case.name for case in CASES])
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    machine = Machine.here()
    document: dict[str, Any] = {}
    for case in CASES:
        if options.only is None or case.name in options.only:
            document[case.name] = measure(case, machine, options)
            if not options.json:
                show(case.name, document[case.name])
    if options.json:
        print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
