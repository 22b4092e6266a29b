"""Stands before a facility: hands requests on, and their answers back; some of them late, or others in their place."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from orchestration.ledger.service import Document

_HOP = {"host", "content-length", "connection", "transfer-encoding"}


@contextmanager
def late_proxy(
    url: str, match: str, *, delay: float = 0.0, instead: Document | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Its URL, and the requests that matched (``METHOD path?query``).

    The first of these is answered `delay` seconds late; with `instead` all of them are answered with this, after the
    facility has acted.
    """
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            answer = httpx.request(self.command, url + self.path, headers=headers, content=body, timeout=30)
            content = answer.content
            line = f"{self.command} {self.path}"
            if re.search(match, line):
                seen.append(line)
                if len(seen) == 1:
                    time.sleep(delay)
                content = content if instead is None else json.dumps(instead).encode()
            with suppress(OSError):  # who asked has gone
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("content-type", ""))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def do_GET(self) -> None:
            self._relay()

        def do_POST(self) -> None:
            self._relay()

        def do_DELETE(self) -> None:
            self._relay()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
