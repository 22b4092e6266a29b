"""The tape archive of the facility as its control sees it: what can be made to fail, and what can be damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.sandbox import documents
from orchestration.sandbox.superfacility.local.hpss import FAULTS, OBJECTS
from orchestration.sandbox.superfacility.places import SUPERFACILITY_CONTROL as BASE

_KINDS = ("down", "lies")


class Archive:
    """Routes below ``/_sandbox/superfacility/hpss``; hsi and htar of jobs look into the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def routes(self) -> list[Route]:
        return [
            Route(f"{BASE}/hpss", self.show),
            Route(f"{BASE}/hpss/faults", self.turn, methods=["POST"]),
            Route(f"{BASE}/hpss/flip", self.flip, methods=["POST"]),
        ]

    async def show(self, request: Request) -> JSONResponse:
        """All objects, by their paths, with their sizes."""
        root = self._folder / OBJECTS
        found = {f"/{path.relative_to(root)}": path.stat().st_size for path in root.rglob("*") if path.is_file()}
        return JSONResponse({"objects": dict(sorted(found.items()))})

    async def turn(self, request: Request) -> JSONResponse:
        """``down``: no answer; ``lies``: exit code 0 whatever happens. What is not named is off."""
        changes = await documents.received(request)
        if strangers := sorted(set(changes) - set(_KINDS)):
            return JSONResponse({"message": f"no such fault: {', '.join(strangers)}"}, status_code=400)
        part = self._folder / f".{FAULTS}"
        part.write_text(json.dumps(changes), encoding="utf-8")
        part.replace(self._folder / FAULTS)
        return JSONResponse(changes)

    async def flip(self, request: Request) -> JSONResponse:
        """One bit of one byte of an object, as it happens to tapes; its size and its time stay."""
        body = await documents.received(request)
        path, byte = documents.text(body, "path"), documents.whole(body, "byte")
        file = self._folder / OBJECTS / path.lstrip("/")
        if not file.is_file() or not 0 <= byte < file.stat().st_size:
            return JSONResponse({"message": f"there is no byte {byte} of {path}"}, status_code=400)
        flip(file, byte)
        return JSONResponse({"path": path, "byte": byte})


def flip(file: Path, byte: int) -> None:
    """Nothing but the byte changes."""
    known = file.stat()
    with file.open("r+b") as opened:
        opened.seek(byte)
        found = opened.read(1)[0]
        opened.seek(byte)
        opened.write(bytes([found ^ 0x10]))
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
