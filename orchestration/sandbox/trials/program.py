"""A program in place of a reconstruction, for trials: instant, with the outputs that a real one declares.

``program.py -m orchestration.science tomography reconstruct --out=FOLDER ... -- SCAN``. Each time that it is started,
it adds a line to ``jobs.log`` beside itself. It goes on for as long as there is a file ``pause`` there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a4944415478da63680000008200815f3a2cce0000000049454e44ae426082"
)
LOG = "jobs.log"
PAUSE = "pause"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["-P"]:  # as a facility's interpreter: the runner itself, which then starts this as the job
        project = str(Path(__file__).parent / "project")
        variables = {**os.environ, "PYTHONPATH": os.path.realpath(project)}
        os.execve(sys.executable, [sys.executable, *arguments], variables)  # noqa: S606 -- no shell is wanted
    if "checksums" in arguments:  # those are quick, and real
        project = os.path.realpath(Path(__file__).parent / "project")
        os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, "PYTHONPATH": project})  # noqa: S606
    out = Path(next(word for word in arguments if word.startswith("--out=")).removeprefix("--out="))
    scan = Path(arguments[arguments.index("--") + 1])
    with (Path(__file__).parent / LOG).open("a") as log:
        log.write(json.dumps({"scan": str(scan), "arguments": arguments, "pid": os.getpid()}) + "\n")
    while (Path(__file__).parent / PAUSE).exists():
        time.sleep(0.05)
    content = scan.read_bytes()
    named = [word.removeprefix("--name=") for word in arguments if word.startswith("--name=")]
    base = out / (named[0] if named else f"rec{scan.stem}")
    base.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (base / f"{base.name[:200]}_{number:05}.tiff").write_bytes(content[:2000])
    _folder(out / f"{base.name}.zarr", "zarr.json", b'{"zarr_format": 3}')
    _folder(out / f"{base.name}.preview", "slice_xy.png", PNG)
    report = {"parameters": {"center": 8.0}, "versions": {"program": "1"}, "timings": {"total": 0.0}}
    (out / f"{base.name}.json").write_text(json.dumps(report))


def _folder(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1:])
