"""Something between a client and a server that loses answers: the server has acted, and the client does not know."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}


@dataclass
class LossyProxy:
    url: str
    lose: list[str] = field(default_factory=list)
    """Ends of paths of which the next answer is lost; each is lost once."""
    lost: list[str] = field(default_factory=list)


@contextmanager
def lossy_proxy(target: str) -> Iterator[LossyProxy]:
    """Forwards to the server of `target`, a URL whose path is kept."""
    parts = urlsplit(target)
    proxy = LossyProxy(url="")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            onward = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            onward.request(self.command, self.path, body, headers)
            answer = onward.getresponse()
            content = answer.read()
            onward.close()
            ending = next((end for end in proxy.lose if self.path.endswith(end)), None)
            if ending is not None:
                proxy.lose.remove(ending)
                proxy.lost.append(self.path)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP | {"date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.forward)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{httpd.server_address[1]}{parts.path}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
