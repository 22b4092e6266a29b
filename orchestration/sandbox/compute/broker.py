"""An AMQP 0-9-1 broker in this process: as much of it as the clients of Globus Compute speak."""

from __future__ import annotations

import asyncio
import logging
import socket

from orchestration.sandbox import ports
from orchestration.sandbox.compute.queues import Queues
from orchestration.sandbox.compute.wire import Connection

logger = logging.getLogger(__name__)

USER = "sandbox"
PASSWORD = "sandbox"  # noqa: S105 -- opens nothing but the broker on this machine
HOST = "127.0.0.1"


class Broker:
    """Serves `queues` to AMQP clients."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@{HOST}:{self.port}/%2F"

    async def start(self, port: int) -> None:
        """Listen; at the same port as before a restart if that is free, for clients come back to where they were."""
        try:
            self._server = await asyncio.start_server(self._serve, sock=_listening(port or ports.take()))
        except OSError as error:
            logger.warning("AMQP port %d is taken (%s): endpoints started before must be started again", port, error)
            self._server = await asyncio.start_server(self._serve, sock=_listening(ports.take()))
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        # Each ends by itself now; the loop must see them end before it is closed.
        while self._connections:
            await asyncio.sleep(0.01)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self._queues, reader, writer, user=USER, password=PASSWORD)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


def _listening(port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError:
        listening.close()
        raise
    return listening
