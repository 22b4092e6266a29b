"""What a Globus Flow runs at a facility: this text is sent there as it stands. Standard library only."""

from __future__ import annotations

import subprocess


def reconstruct(python, scan, out, parameters=None):  # type: ignore[no-untyped-def]
    """Reconstruct ``scan`` into the folder ``out`` with the programs of the interpreter ``python``.

    ``parameters`` are those of ``python -m orchestration.science tomography reconstruct``. Whatever is printed comes
    back; anything but success is an error of the task, and so of the flow.
    """
    words = [python, "-P", "-m", "orchestration.science", "tomography", "reconstruct", "--out=" + out]
    for name, value in sorted((parameters or {}).items()):
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append("--" + ("" if value else "no-") + flag)
        else:
            words.append("--%s=%s" % (flag, value))  # noqa: UP031 -- the worker's Python may be old
    done = subprocess.run([*words, "--", scan], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("exit code %d: %s" % (done.returncode, done.stderr[-2000:]))  # noqa: UP031
    return {"printed": done.stdout[-2000:]}
