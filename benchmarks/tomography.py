"""Slices per second and error of our filtered backprojection and of others', on the same data in the same run.

    python benchmarks/tomography.py --sizes 1024 2048 --peer-python /path/to/venv/bin/python [--json]

Peers (tomopy, astra-toolbox, algotom) are used from the interpreters named; one that none of them has is reported as
absent. Every method runs in a process of its own on all processors, after a warm-up of one slice pair, and its images
are compared with the phantom after the best flip, transposition and scale (ours needs none; both figures are shown).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("tomopy gridrec", "astra FBP", "algotom FBP", "algotom DFI")
Images = Any
Method = Callable[[Images, Images, int], Images]


def ours(sinograms: Images, angles: Images, threads: int) -> Images:
    from orchestration.science.tomography.kernel import Backprojector, Filter, Geometry, Tables

    width = sinograms.shape[2]
    tables = Tables(Geometry(angles=angles, width=width, center=(width - 1) / 2), filter_=Filter())
    images = np.empty((len(sinograms), width, width), dtype=np.float32)
    workers = [Backprojector(tables) for _ in range(threads)]

    def share(worker: int) -> None:
        for start in range(2 * worker, len(sinograms), 2 * threads):
            images[start : start + 2] = workers[worker](sinograms[start : start + 2])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(share, range(threads)))
    return images


def tomopy_gridrec(sinograms: Images, angles: Images, threads: int) -> Images:
    """Padded to twice the width, without which it is wrong by half."""
    import tomopy  # type: ignore[import-not-found,unused-ignore]

    width = sinograms.shape[2]
    pad = width // 2
    padded = np.pad(sinograms, ((0, 0), (0, 0), (pad, pad)))
    center = (width - 1) / 2 + pad
    images = tomopy.recon(
        padded, angles, center=center, sinogram_order=True, algorithm="gridrec", filter_name="ramlak", ncore=threads
    )
    return images[:, pad : pad + width, pad : pad + width]


def astra_fbp(sinograms: Images, angles: Images, _threads: int) -> Images:
    import astra

    width = sinograms.shape[2]
    volume = astra.create_vol_geom(width, width)
    beam = astra.create_proj_geom("parallel", 1.0, width, angles)
    projector = astra.create_projector("linear", beam, volume)
    images = []
    for sinogram in sinograms:
        data = astra.data2d.create("-sino", beam, sinogram)
        result = astra.data2d.create("-vol", volume)
        settings = astra.astra_dict("FBP")
        settings |= {"ProjectorId": projector, "ProjectionDataId": data, "ReconstructionDataId": result}
        algorithm = astra.algorithm.create(settings)
        astra.algorithm.run(algorithm)
        images.append(astra.data2d.get(result))
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([data, result])
    return np.stack(images)


def algotom_fbp(sinograms: Images, angles: Images, threads: int) -> Images:
    from algotom.rec import reconstruction

    center = (sinograms.shape[2] - 1) / 2
    options = {"angles": angles, "apply_log": False, "gpu": False, "filter_name": None, "ncore": threads, "ratio": None}
    return np.stack([reconstruction.fbp_reconstruction(one, center, **options) for one in sinograms])


def algotom_dfi(sinograms: Images, angles: Images, threads: int) -> Images:
    from algotom.rec import reconstruction

    center = (sinograms.shape[2] - 1) / 2
    options = {"angles": angles, "apply_log": False, "filter_name": None, "ratio": None, "ncore": threads}
    return np.stack([reconstruction.dfi_reconstruction(one, center, **options) for one in sinograms])


METHODS: dict[str, tuple[str, Method]] = {
    "ours": ("finufft", ours),
    "tomopy gridrec": ("tomopy", tomopy_gridrec),
    "astra FBP": ("astra", astra_fbp),
    "algotom FBP": ("algotom", algotom_fbp),
    "algotom DFI": ("algotom", algotom_dfi),
}


def work(name: str, folder: Path) -> None:
    """In a process of its own: reconstruct, save, and print what it took."""
    sys.path.insert(0, str(ROOT))
    sinograms = np.load(folder / "sinograms.npy")
    angles = np.load(folder / "angles.npy")
    threads = len(os.sched_getaffinity(0))
    method = METHODS[name][1]
    # Compiles, loads and plans what the first use does; on a small corner, so that slow methods stay bearable.
    small = np.ascontiguousarray(sinograms[:2, :, :128])
    method(small, angles, threads)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    images = method(sinograms, angles, threads)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    np.save(folder / "images.npy", np.asarray(images, dtype=np.float32))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_memory_bytes": peak_memory()}))


def peak_memory() -> int:
    """Of this process alone; that of the resource usage starts from the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def make_data(size: int, angles: int, slices: int) -> tuple[Images, Images, Images]:
    """Exact sinograms, their angles and the true slices, at heights over the middle of the phantom."""
    from orchestration.science.tomography import phantom

    turns = np.arange(angles) * np.pi / angles
    edges = (np.arange(size + 1) - size / 2) / (size / 2)
    heights = np.linspace(-0.2, 0.2, slices) if slices > 1 else np.zeros(1)
    rows = [
        phantom.line_integrals(phantom.SHEPP_LOGAN, angle=float(np.rad2deg(turn)), edges=edges, heights=heights)
        for turn in turns
    ]
    sinograms = np.ascontiguousarray((np.stack(rows, axis=1) * (size / 2)).astype(np.float32))
    truth = [
        phantom.slice_density(phantom.SHEPP_LOGAN, size=size, height=float(height), half_width=size / 2)
        for height in heights[:2]
    ]
    return sinograms, turns, np.stack(truth)


def errors(images: Images, truth: Images) -> dict[str, float]:
    size = truth.shape[-1]
    distance = np.arange(size) - (size - 1) / 2
    inside = distance[:, None] ** 2 + distance[None, :] ** 2 <= (0.99 * size / 2) ** 2
    right = truth[:, inside].astype(np.float64)
    best: dict[str, float] = {}
    for transposed in (False, True):
        turned = images[: len(truth)].swapaxes(1, 2) if transposed else images[: len(truth)]
        for rows in (1, -1):
            for columns in (1, -1):
                found = turned[:, ::rows, ::columns][:, inside].astype(np.float64)
                scale = float(np.sum(found * right) / np.sum(found**2))
                fitted = float(np.linalg.norm(scale * found - right) / np.linalg.norm(right))
                if not best or fitted < best["relative_l2_fitted"]:
                    plain = float(np.linalg.norm(found - right) / np.linalg.norm(right))
                    best = {"relative_l2": plain, "relative_l2_fitted": fitted, "best_scale": scale}
    return best


def has(python: str, module: str) -> bool:
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", probe], check=False, capture_output=True).returncode == 0


def measure(name: str, size: int, angles: int, pythons: list[str], slices: int) -> dict[str, Any]:
    module = METHODS[name][0]
    python = next((candidate for candidate in pythons if has(candidate, module)), None)
    if python is None:
        return {"method": name, "size": size, "absent": True}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sinograms, turns, truth = make_data(size, angles, slices)
        np.save(folder / "sinograms.npy", sinograms)
        np.save(folder / "angles.npy", turns)
        line = [python, str(Path(__file__).resolve()), "--worker", name, "--folder", temporary]
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if name == "ours" else {}
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | single)
        if done.returncode != 0:
            return {"method": name, "size": size, "failed": done.stderr.strip().splitlines()[-1:]}
        figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        quality = errors(np.load(folder / "images.npy"), truth)
    rate = {"slices_per_s": slices / figures["wall_s"], "cpu_s_per_slice": figures["cpu_s"] / slices}
    return {"method": name, "size": size, "angles": angles, "slices": slices} | rate | figures | quality


def verdict(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Our speed over that of the fastest peer that reaches our error, within a quarter."""
    own = next(row for row in rows if row["method"] == "ours")
    able = [
        row["slices_per_s"]
        for row in rows
        if row["method"] != "ours" and row.get("relative_l2_fitted", 9) <= 1.25 * own["relative_l2_fitted"]
    ]
    all_peers = [row["slices_per_s"] for row in rows if row["method"] != "ours" and "slices_per_s" in row]
    return {
        "over_fastest_peer_of_our_error": own["slices_per_s"] / max(able) if able else None,
        "over_fastest_peer": own["slices_per_s"] / max(all_peers) if all_peers else None,
    }


def stages(size: int, angles: int) -> dict[str, float]:
    """Seconds by stage of a whole reconstruction, from file to files, of 32 slices with noise and rings."""
    from orchestration.science.tomography.parameters import Parameters
    from orchestration.science.tomography.reconstruct import reconstruct
    from orchestration.science.tomography.simulate import ScanDescription, write_scan

    with tempfile.TemporaryDirectory() as temporary:
        scan = Path(temporary) / "scan.h5"
        write_scan(scan, ScanDescription(width=size, height=32, angles=angles, photons=20000, rings=True))
        result = reconstruct(scan, Path(temporary) / "out", Parameters())
        report = json.loads(result.report.read_text(encoding="utf-8"))
    seconds: dict[str, float] = report["stages_s"]
    return seconds | {"total": report["seconds"], "slices": 32}


def show(rows: list[dict[str, Any]]) -> None:
    print(f"{'method':<16}{'size':>6}{'slices/s':>10}{'cpu s':>8}{'rel. L2':>9}{'fitted':>8}{'GiB':>7}")
    for row in rows:
        if "slices_per_s" not in row:
            print(f"{row['method']:<16}{row['size']:>6}  {'absent' if 'absent' in row else row['failed']}")
            continue
        quality = f"{row['relative_l2']:>9.4f}{row['relative_l2_fitted']:>8.4f}"
        speed = f"{row['slices_per_s']:>10.3f}{row['cpu_s_per_slice']:>8.3f}"
        print(f"{row['method']:<16}{row['size']:>6}{speed}{quality}{row['peak_memory_bytes'] / 2**30:>7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--peer-python", nargs="*", default=[], metavar="PATH", help="interpreters that have peers")
    parser.add_argument("--sizes", nargs="*", type=int, default=[1024], help="detector widths; as many angles")
    parser.add_argument("--slices", type=int, default=16, help="slices of ours; peers that take O(n^3) get fewer")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.folder)
        return
    sys.path.insert(0, str(ROOT))
    document = []
    for size in options.sizes:
        rows = [measure("ours", size, size, [sys.executable], options.slices)]
        few = max(1, 2048 // size)
        for name in PEERS:
            slices = options.slices if name == "tomopy gridrec" else few
            rows.append(measure(name, size, size, [sys.executable, *options.peer_python], slices))
        document.append({"size": size, "rows": rows, "speed": verdict(rows), "stages_s": stages(size, size)})
        if not options.json:
            show(rows)
            print("ours over peers:", document[-1]["speed"])
            print("our stages, 32 slices from file to files:", document[-1]["stages_s"])
    if options.json:
        print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
