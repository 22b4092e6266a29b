"""One channel of an AMQP client, and what it asks of the queues."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Confirm, Exchange
from pamqp.commands import Queue as QueueCommands
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from orchestration.sandbox.compute.queues import Message, Queue, Queues, Refused

Sendable: TypeAlias = Frame | ContentHeader | ContentBody | Heartbeat


class Wire(Protocol):
    """Where a channel sends its frames."""

    @property
    def frame_max(self) -> int: ...

    def send(self, value: Sendable, channel: int = 0) -> None: ...


@dataclass(eq=False)
class _Publication:
    """A message that is still arriving."""

    method: Basic.Publish
    properties: Basic.Properties = field(default_factory=Basic.Properties)
    size: int = 0
    parts: list[bytes] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return sum(map(len, self.parts)) >= self.size


@dataclass(eq=False)
class _Subscription:
    """A consumer of one channel."""

    channel: ClientChannel
    tag: str
    queue: Queue
    no_ack: bool

    @property
    def ready(self) -> bool:
        return self.channel.ready

    def deliver(self, message: Message) -> None:
        self.channel.deliver(self, message)

    def cancelled(self) -> None:
        self.channel.subscriptions.pop(self.tag, None)
        self.channel.send(Basic.Cancel(self.tag, nowait=True))


class ClientChannel:
    """Publishes, consumes and acknowledges; what it asks wrongly closes it, and no other."""

    def __init__(self, wire: Wire, queues: Queues, number: int) -> None:
        self._wire = wire
        self._queues = queues
        self._number = number
        self._prefetch = 0
        self._confirms = False
        self._published = 0
        self._tag = 0
        self._unacknowledged: OrderedDict[int, tuple[Queue, Message]] = OrderedDict()
        self._publication: _Publication | None = None
        self.subscriptions: dict[str, _Subscription] = {}

    @property
    def ready(self) -> bool:
        return not self._prefetch or len(self._unacknowledged) < self._prefetch

    def send(self, value: Sendable) -> None:
        self._wire.send(value, self._number)

    def deliver(self, to: _Subscription, message: Message) -> None:
        tag = self._next_tag(to.queue, message, no_ack=to.no_ack)
        self._content(Basic.Deliver(to.tag, tag, message.redelivered, message.exchange, message.key), message)

    def close(self) -> None:
        """What it took and did not acknowledge goes to others."""
        for subscription in list(self.subscriptions.values()):
            self._queues.leave(subscription.queue, subscription)
        self.subscriptions.clear()
        pending = list(self._unacknowledged.values())
        self._unacknowledged.clear()
        self._queues.give_back(pending)

    def header(self, value: ContentHeader) -> None:
        if self._publication is not None:
            self._publication.properties = value.properties
            self._publication.size = value.body_size
            self._publish_if_whole()

    def body(self, value: ContentBody) -> None:
        if self._publication is not None:
            self._publication.parts.append(value.value)
            self._publish_if_whole()

    def command(self, value: Frame) -> None:
        """Raises: Refused."""
        handler = _HANDLERS.get(type(value))
        if handler is None:
            raise Refused(540, f"NOT_IMPLEMENTED - {value.name}")
        handler(self, value)

    def declare_exchange(self, value: Exchange.Declare) -> None:
        if value.passive and not self._queues.has_exchange(value.exchange):
            raise Refused(404, f"NOT_FOUND - no exchange '{value.exchange}' in vhost '/'")
        self._queues.declare_exchange(value.exchange)
        self._answer(value, Exchange.DeclareOk())

    def declare_queue(self, value: QueueCommands.Declare) -> None:
        name = value.queue or f"amq.gen-{id(value):x}"
        queue = self._queues.get(name) if value.passive else self._queues.declare(name)
        self._answer(value, QueueCommands.DeclareOk(name, len(queue.waiting), len(queue.consumers)))

    def bind(self, value: QueueCommands.Bind) -> None:
        self._queues.bind(value.queue, value.exchange, value.routing_key)
        self._answer(value, QueueCommands.BindOk())

    def purge(self, value: QueueCommands.Purge) -> None:
        self._answer(value, QueueCommands.PurgeOk(self._queues.purge(value.queue)))

    def delete(self, value: QueueCommands.Delete) -> None:
        self._answer(value, QueueCommands.DeleteOk(self._queues.delete(value.queue)))

    def limit(self, value: Basic.Qos) -> None:
        self._prefetch = value.prefetch_count
        self.send(Basic.QosOk())

    def confirm(self, value: Confirm.Select) -> None:
        self._confirms = True
        self._answer(value, Confirm.SelectOk())

    def consume(self, value: Basic.Consume) -> None:
        queue = self._queues.get(value.queue)
        tag = value.consumer_tag or f"ctag-{id(value):x}"
        subscription = _Subscription(self, tag, queue, value.no_ack)
        self._queues.consume(queue, subscription, exclusive=value.exclusive)
        self.subscriptions[tag] = subscription
        self._answer(value, Basic.ConsumeOk(tag))
        self._queues.pump(queue)

    def cancel(self, value: Basic.Cancel) -> None:
        subscription = self.subscriptions.pop(value.consumer_tag or "", None)
        if subscription is not None:
            self._queues.leave(subscription.queue, subscription)
        self._answer(value, Basic.CancelOk(value.consumer_tag))

    def publish(self, value: Basic.Publish) -> None:
        if not self._queues.has_exchange(value.exchange):
            raise Refused(404, f"NOT_FOUND - no exchange '{value.exchange}' in vhost '/'")
        self._publication = _Publication(value)

    def acknowledge(self, value: Basic.Ack) -> None:
        self._queues.acknowledge(self._take(value.delivery_tag or 0, multiple=value.multiple))

    def reject(self, value: Basic.Nack | Basic.Reject) -> None:
        taken = self._take(value.delivery_tag or 0, multiple=getattr(value, "multiple", False))
        if value.requeue:
            self._queues.give_back(taken)
        else:
            self._queues.acknowledge(taken)

    def get(self, value: Basic.Get) -> None:
        queue = self._queues.get(value.queue)
        if not queue.waiting:
            self.send(Basic.GetEmpty())
            return
        message = queue.waiting.popleft()
        message.deliveries += 1
        tag = self._next_tag(queue, message, no_ack=value.no_ack)
        method = Basic.GetOk(tag, message.redelivered, message.exchange, message.key, len(queue.waiting))
        self._content(method, message)

    def _answer(self, command: Frame, value: Frame) -> None:
        """Unless the client wants none."""
        if not getattr(command, "nowait", False):
            self.send(value)

    def _next_tag(self, queue: Queue, message: Message, *, no_ack: bool) -> int:
        self._tag += 1
        if not no_ack:
            self._unacknowledged[self._tag] = (queue, message)
        return self._tag

    def _take(self, tag: int, *, multiple: bool) -> list[tuple[Queue, Message]]:
        tags = [each for each in self._unacknowledged if each <= tag or tag == 0] if multiple else [tag]
        return [self._unacknowledged.pop(each) for each in tags if each in self._unacknowledged]

    def _content(self, method: Frame, message: Message) -> None:
        self.send(method)
        self.send(ContentHeader(0, len(message.body), message.properties))
        size = self._wire.frame_max - 8
        for start in range(0, len(message.body), size):
            self.send(ContentBody(message.body[start : start + size]))

    def _publish_if_whole(self) -> None:
        arriving = self._publication
        if arriving is None or not arriving.whole:
            return
        self._publication = None
        method = arriving.method
        message = Message(
            exchange=method.exchange,
            key=method.routing_key,
            properties=arriving.properties,
            body=b"".join(arriving.parts),
        )
        if not self._queues.publish(message) and method.mandatory:
            self._content(Basic.Return(312, "NO_ROUTE", method.exchange, method.routing_key), message)
        if self._confirms:
            self._published += 1
            self.send(Basic.Ack(self._published, multiple=False))


_HANDLERS: dict[type[Frame], Callable[[ClientChannel, Frame], None]] = {
    Exchange.Declare: ClientChannel.declare_exchange,  # type: ignore[dict-item]
    QueueCommands.Declare: ClientChannel.declare_queue,  # type: ignore[dict-item]
    QueueCommands.Bind: ClientChannel.bind,  # type: ignore[dict-item]
    QueueCommands.Purge: ClientChannel.purge,  # type: ignore[dict-item]
    QueueCommands.Delete: ClientChannel.delete,  # type: ignore[dict-item]
    Basic.Qos: ClientChannel.limit,  # type: ignore[dict-item]
    Confirm.Select: ClientChannel.confirm,  # type: ignore[dict-item]
    Basic.Consume: ClientChannel.consume,  # type: ignore[dict-item]
    Basic.Cancel: ClientChannel.cancel,  # type: ignore[dict-item]
    Basic.Publish: ClientChannel.publish,  # type: ignore[dict-item]
    Basic.Ack: ClientChannel.acknowledge,  # type: ignore[dict-item]
    Basic.Nack: ClientChannel.reject,  # type: ignore[dict-item]
    Basic.Reject: ClientChannel.reject,  # type: ignore[dict-item]
    Basic.Get: ClientChannel.get,  # type: ignore[dict-item]
}
