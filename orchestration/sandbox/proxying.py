"""Answering as an HTTP proxy for one's own services."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send


class AbsoluteForm:
    """Takes requests as clients send them to a proxy, with the whole URL, for requests to this facility.

    The endpoint program of Globus Compute finds a web service other than the real one only at port 5000 of its own
    machine. With ``HTTP_PROXY`` set to the facility's address it finds one at any port.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "://" in scope["path"]:
            path = urlsplit(scope["path"].lstrip("/")).path or "/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)
