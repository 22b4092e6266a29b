"""What it takes to start with compiled loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
print("ready to compile:", "numba.np.arraymath" in sys.modules)
"""


def test_what_is_compiled_already_runs_without_what_it_takes_to_compile(tmp_path: Path) -> None:
    """In a process that nothing was compiled in: all that the loops need is with them."""
    for _ in range(2):
        words = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "ready to compile: False"
