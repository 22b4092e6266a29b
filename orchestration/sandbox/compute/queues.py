"""Exchanges, queues and deliveries: what a broker is, without the wire. All of it lives in one event loop."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pamqp.commands import Basic

logger = logging.getLogger(__name__)


class Refused(Exception):
    """Raised when a channel asked for something wrong: it is closed with this AMQP code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(eq=False, kw_only=True)
class Message:
    exchange: str
    key: str
    properties: Basic.Properties
    body: bytes
    subject: str = ""
    """The task that it is about, for who watches; the clients do not see it."""
    redelivered: bool = False
    deliveries: int = 0
    expires: float = field(init=False)

    def __post_init__(self) -> None:
        lifetime = self.properties.expiration
        self.expires = time.time() + int(lifetime) / 1000 if lifetime else float("inf")


class Consumer(Protocol):
    """Who takes messages off a queue."""

    @property
    def ready(self) -> bool: ...

    def deliver(self, message: Message) -> None: ...

    def cancelled(self) -> None:
        """The queue is gone."""
        ...


class Watcher(Protocol):
    """Is told what becomes of messages that have a subject."""

    def delivered(self, message: Message, queue: str) -> None: ...

    def acknowledged(self, message: Message, queue: str) -> None: ...

    def abandoned(self, message: Message, queue: str) -> None:
        """It was delivered as often as is allowed, and never acknowledged."""
        ...


Sink = Callable[[str, bytes], None]
"""Takes routing key and body of each message of a queue at once, inside this process."""


@dataclass(eq=False)
class Queue:
    name: str
    waiting: deque[Message] = field(default_factory=deque)
    consumers: deque[Consumer] = field(default_factory=deque)
    exclusive: Consumer | None = None
    sink: Sink | None = None


class Queues:
    """Topic exchanges and queues, in memory; whoever needs them after a restart declares them again."""

    def __init__(self, *, watcher: Watcher, delivery_limit: int) -> None:
        self._watcher = watcher
        self._limit = delivery_limit
        self._queues: dict[str, Queue] = {}
        self._bindings: dict[str, list[tuple[str, str]]] = {"": []}

    def declare_exchange(self, name: str) -> None:
        self._bindings.setdefault(name, [])

    def has_exchange(self, name: str) -> bool:
        return name in self._bindings

    def declare(self, name: str, *, sink: Sink | None = None) -> Queue:
        queue = self._queues.setdefault(name, Queue(name))
        queue.sink = sink or queue.sink
        return queue

    def bind(self, queue: str, exchange: str, key: str) -> None:
        """Raises: Refused, if the exchange does not exist."""
        if exchange not in self._bindings:
            raise Refused(404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'")
        if (queue, key) not in self._bindings[exchange]:
            self._bindings[exchange].append((queue, key))

    def get(self, name: str) -> Queue:
        """Raises: Refused, if there is none."""
        try:
            return self._queues[name]
        except KeyError:
            raise Refused(404, f"NOT_FOUND - no queue '{name}' in vhost '/'") from None

    def purge(self, name: str) -> int:
        queue = self._queues.get(name)
        count = len(queue.waiting) if queue else 0
        if queue:
            queue.waiting.clear()
        return count

    def delete(self, name: str) -> int:
        queue = self._queues.pop(name, None)
        if queue is None:
            return 0
        for consumer in list(queue.consumers):
            consumer.cancelled()
        return len(queue.waiting)

    def publish(self, message: Message) -> bool:
        """Returns whether any queue took it. Raises: Refused, if the exchange does not exist."""
        if message.exchange not in self._bindings:
            raise Refused(404, f"NOT_FOUND - no exchange '{message.exchange}' in vhost '/'")
        found = [self._queues[name] for name in self._targets(message) if name in self._queues]
        for queue in found:
            if queue.sink is not None:
                queue.sink(message.key, message.body)
            else:
                queue.waiting.append(message)
                self.pump(queue)
        return bool(found)

    def consume(self, queue: Queue, consumer: Consumer, *, exclusive: bool) -> None:
        """Raises: Refused, if somebody has the queue for himself."""
        if queue.exclusive or (exclusive and queue.consumers):
            raise Refused(403, f"ACCESS_REFUSED - queue '{queue.name}' in vhost '/' in exclusive use")
        queue.consumers.append(consumer)
        if exclusive:
            queue.exclusive = consumer

    def leave(self, queue: Queue, consumer: Consumer) -> None:
        if consumer in queue.consumers:
            queue.consumers.remove(consumer)
        if queue.exclusive is consumer:
            queue.exclusive = None

    def pump(self, queue: Queue) -> None:
        """Hand out what waits, in turn, to all who can take more."""
        while queue.waiting:
            consumer = self._next(queue)
            if consumer is None:
                return
            message = queue.waiting.popleft()
            if message.expires < time.time():
                continue
            message.deliveries += 1
            consumer.deliver(message)
            if message.subject:
                self._watcher.delivered(message, queue.name)

    def acknowledge(self, deliveries: Iterable[tuple[Queue, Message]]) -> None:
        touched: dict[str, Queue] = {}
        for queue, message in deliveries:
            touched[queue.name] = queue
            if message.subject:
                self._watcher.acknowledged(message, queue.name)
        for queue in touched.values():
            self.pump(queue)

    def give_back(self, deliveries: Iterable[tuple[Queue, Message]]) -> None:
        """Not acknowledged: back to the front, oldest first; too often, and it is given up."""
        touched: dict[str, Queue] = {}
        for queue, message in reversed(list(deliveries)):
            touched[queue.name] = queue
            message.redelivered = True
            if message.subject and message.deliveries >= self._limit:
                logger.warning("a message of %s was delivered %d times: given up", queue.name, message.deliveries)
                self._watcher.abandoned(message, queue.name)
            else:
                queue.waiting.appendleft(message)
        for queue in touched.values():
            self.pump(queue)

    def _next(self, queue: Queue) -> Consumer | None:
        for _ in range(len(queue.consumers)):
            consumer = queue.consumers[0]
            queue.consumers.rotate(-1)
            if consumer.ready:
                return consumer
        return None

    def _targets(self, message: Message) -> list[str]:
        if message.exchange == "":
            return [message.key]
        bindings = self._bindings[message.exchange]
        return list(dict.fromkeys(queue for queue, pattern in bindings if _matches(pattern, message.key)))


def _matches(pattern: str, key: str) -> bool:
    """Whether a routing key matches a topic: ``*`` is one word, ``#`` any number of them."""
    words = [{"*": r"\.[^.]+", "#": r"(\.[^.]+)*"}.get(word, r"\." + re.escape(word)) for word in pattern.split(".")]
    return re.fullmatch("".join(words), "." + key) is not None
