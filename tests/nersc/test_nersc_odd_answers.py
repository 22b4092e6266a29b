"""An API that answers what nobody asked for is believed nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from nersc_ground import Ground

from orchestration.conditions import SiteState
from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.ledger.service import CancelAnswer, Running
from orchestration.nersc.jobs import NerscJobs
from orchestration.nersc.status import NerscStatus
from orchestration.sandbox.testing import submit

ODD = [
    "",
    "<html>Bad gateway</html>",
    "null",
    "[]",
    '"text"',
    "{}",
    '{"status": "OK"}',
    '{"status": "OK", "output": null, "error": null}',
    '{"status": "OK", "output": [null, 1, "x"], "file": 7, "entries": [1], "tasks": {}, "name": null}',
    '{"status": "OK", "output": [{"jobid": 12}], "file": "!!!", "is_binary": true, "name": "als", "task_id": "1"}',
    '{"status": null, "output": [{"jobid": "12", "state": null, "nodelist": 5}], "result": "not json"}',
    '{"status": "completed", "task_id": "1", "entries": [{"name": "."}], "result": "{\\"error\\": \\"Invalid qos\\"}"}',
    '{"status": 5, "error": ["x"], "output": {"jobid": "12"}}',
    "{" * 50,
    "\udcff\udcfe\udc00",  # bytes that are no text
]


@contextmanager
def odd_api(body: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = {"access_token": "t", "token_type": "Bearer", "expires_in": 600}
            content = json.dumps(token).encode() if self.path == "/token" else body.encode("utf-8", "surrogateescape")
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("body", ODD)
def test_nothing_follows_from_an_odd_answer(ground: Ground, body: str) -> None:
    with odd_api(body) as url:
        site = ground.site.model_copy(update={"api_url": f"{url}/api", "token_url": f"{url}/token"})
        jobs = NerscJobs(site, ground.credentials, patience=replace(ground.patience, task=0.0, cancel=0.0))
        spec = ground.shell("true")
        with suppress(ServiceUnavailable):
            assert isinstance(jobs.poll(spec, "12 key1-1"), Running)
        with suppress(ServiceUnavailable):
            assert all(isinstance(status, Running) for status in jobs.poll_many([(spec, "12 key1-1")]).values())
        with suppress(ServiceUnavailable):
            assert jobs.cancel("12 key1-1") is CancelAnswer.UNKNOWN
        with suppress(ServiceUnavailable):
            assert jobs.reserve("key2-1").startswith("key2-1-")
        jobs._memory.unsent("key2-1")
        with pytest.raises(OrchestrationError):
            submit(jobs, spec, "key2-1")
        found = NerscStatus(site=site, credentials=ground.credentials).condition()
        assert (found.state, found.outages, found.hours_left) == (SiteState.UNKNOWN, (), None)
