"""Runs the command line of the science programs."""

from __future__ import annotations

import gc
import os
import sys

if sys.argv[1:2] == ["run"]:  # before anything is imported that takes long, or that the job's own program needs
    from orchestration.science.running.runner import main as run

    sys.exit(run(sys.argv[2:]))
if sys.argv[1:2] == ["session"]:
    from orchestration.science.running.session import main as session

    sys.exit(session(sys.argv[2:]))

# Libraries make some hundred thousand objects that stay: to look through them, again and again, for some that could go
# takes a fifth of the start. Arrays go at once, without that.
gc.set_threshold(100_000)

# Threads work on slices of their own; libraries that started more inside each would only get in the way.
# This must be set before numpy is first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from orchestration.science.cli import main  # noqa: E402 - see above

if __name__ == "__main__":
    code = main()
    # All is written and closed. What an interpreter does at its end takes time, and HDF5 would try once more to write
    # what did not fit a full disk, and may crash in that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
