"""What stands in a folder, to be compared with what stands there later."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def tree(folder: Path) -> dict[bytes, tuple[str, int]]:
    """Digest and time of every file below a folder, by its name in bytes."""
    root = os.fsencode(folder)
    found = {}
    for base, _, names in os.walk(root):
        for name in names:
            path = os.path.join(base, name)
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(path, root)] = (digest, os.stat(path).st_mtime_ns)
    return found
