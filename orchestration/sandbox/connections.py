"""Closing the connection of a request without answering it, which ASGI has no word for."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_Ends: TypeAlias = tuple[object, object]
_open: dict[_Ends, asyncio.Transport] = {}
"""Transports of all servers of this process, by (server address, client address)."""


class TrackedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, findable by its two ends."""

    _ends: _Ends | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._ends = (self.server, self.client)
        _open[self._ends] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ends is not None:
            _open.pop(self._ends, None)
        super().connection_lost(exc)


async def close(scope: Scope, receive: Receive) -> None:
    """Close the connection that this request came by, and wait until it is.

    Without an own server underneath (an ASGI client in a test) there is nothing to close, and ConnectionAbortedError
    is raised instead.
    """
    transport = _open.get((scope.get("server"), scope.get("client")))
    if transport is None:
        raise ConnectionAbortedError("no connection of this facility's own server to close")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
