"""What it takes to start with compiled loops."""

from __future__ import annotations

import subprocess
import sys

LOOP = """
import sys
import numpy as np
from orchestration.science.xpcs.blocks import times
from orchestration.science.xpcs.frames import Events, FrameRange

frames, ones = np.arange(3, dtype=np.uint32), np.ones(3, dtype=np.uint16)
found = times(Events(frames, frames, ones), FrameRange(first=1, stop=3))
print(found.tolist(), "scipy.linalg" in sys.modules)
"""


def test_a_loop_runs_without_the_linear_algebra_that_numba_looks_for() -> None:
    answer = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, check=True)
    assert answer.stdout.split("\n")[0] == "[-1, 0, 1] False"


def test_numba_has_linear_algebra_all_the_same_for_whoever_asks_later() -> None:
    program = "from orchestration.science.xpcs import compiling; from numba.np.linalg import ensure_blas; ensure_blas()"
    subprocess.run([sys.executable, "-c", program], check=True)
