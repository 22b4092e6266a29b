"""The connection of one AMQP client."""

from __future__ import annotations

import asyncio
import logging

from pamqp import frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Channel
from pamqp.commands import Connection as Commands
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from orchestration.sandbox.compute.channel import ClientChannel, Sendable
from orchestration.sandbox.compute.queues import Queues, Refused

logger = logging.getLogger(__name__)

_FRAME_MAX = 131_072
_HEARTBEAT = 60
_BEAT = 5.0
"""Seconds between our own heartbeats: often enough for whatever a client agrees to."""
_CAPABILITIES = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
}


class Connection:
    def __init__(
        self,
        queues: Queues,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        user: str,
        password: str,
    ) -> None:
        self._queues = queues
        self.frame_max = _FRAME_MAX
        self._reader = reader
        self._writer = writer
        self._credentials = (user, password)
        self._channels: dict[int, ClientChannel] = {}
        self._heartbeat = 0
        self._closed = False

    def send(self, value: Sendable, channel: int = 0) -> None:
        if not self._closed:
            self._writer.write(frame.marshal(value, channel))

    def abort(self) -> None:
        self._writer.transport.abort()

    async def run(self) -> None:
        """Until either side closes it, or the client has been silent for two heartbeats."""
        beating = asyncio.create_task(self._beat())
        try:
            await self._listen()
        except (ConnectionError, TimeoutError) as error:
            logger.info("an AMQP connection ended: %r", error)
        except PAMQPException:
            logger.exception("an AMQP client sent what cannot be read")
        finally:
            self._closed = True
            beating.cancel()
            for channel in list(self._channels.values()):
                channel.close()
            self._writer.close()

    async def _listen(self) -> None:
        buffer = b""
        while not self._closed:
            async with asyncio.timeout(self._heartbeat * 2 or None):
                data = await self._reader.read(1 << 18)
            if not data:
                return
            buffer = self._frames(buffer + data)
            if not self._closed:
                await self._writer.drain()

    def _frames(self, buffer: bytes) -> bytes:
        """Do what all whole frames say; returns the rest."""
        if buffer[:4] == b"AMQP":
            if len(buffer) < 8:
                return buffer
            buffer = buffer[8:]
            product = {"product": "sandbox", "version": "3.13.0", "capabilities": _CAPABILITIES}
            self.send(Commands.Start(0, 9, product, "PLAIN", "en_US"))  # type: ignore[arg-type]
        at = 0
        while len(buffer) - at >= 8:
            size = int.from_bytes(buffer[at + 3 : at + 7], "big") + 8
            if len(buffer) - at < size:
                break
            _, number, value = frame.unmarshal(buffer[at : at + size])
            at += size
            try:
                self._frame(number, value)
            except Refused as refusal:
                self._refuse(number, refusal)
        return buffer[at:]

    def _frame(self, number: int, value: object) -> None:
        channel = self._channels.get(number)
        match value:
            case Heartbeat():
                pass
            case ContentHeader() if channel:
                channel.header(value)
            case ContentBody() if channel:
                channel.body(value)
            case Channel.Open():
                self._channels[number] = ClientChannel(self, self._queues, number)
                self.send(Channel.OpenOk(), number)
            case Channel.Close():
                self._leave(number)
                self.send(Channel.CloseOk(), number)
            case Frame() if number == 0:
                self._greet(value)
            case Frame() if channel and not isinstance(value, Channel.CloseOk):
                channel.command(value)
            # Any other is on its way to a channel that was closed meanwhile.

    def _greet(self, value: Frame) -> None:
        match value:
            case Commands.StartOk():
                _, user, password = str(value.response).split("\0")
                if (user, password) != self._credentials:
                    self.send(Commands.Close(403, "ACCESS_REFUSED - Login was refused using PLAIN.", 0, 0))
                    return
                self.send(Commands.Tune(2047, _FRAME_MAX, _HEARTBEAT))
            case Commands.TuneOk():
                self._heartbeat, self.frame_max = value.heartbeat, value.frame_max or _FRAME_MAX
            case Commands.Open():
                self.send(Commands.OpenOk())
            case Commands.Close():
                self.send(Commands.CloseOk())
                self._closed = True
            case Commands.CloseOk():
                self._closed = True

    def _refuse(self, number: int, refusal: Refused) -> None:
        logger.info("an AMQP channel is closed: %s", refusal.text)
        self._leave(number)
        self.send(Channel.Close(refusal.code, refusal.text, 0, 0), number)

    def _leave(self, number: int) -> None:
        channel = self._channels.pop(number, None)
        if channel is not None:
            channel.close()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT)
            if self._heartbeat:
                self.send(Heartbeat())
