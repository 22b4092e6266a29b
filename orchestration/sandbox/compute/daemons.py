"""Real endpoint programs: how they register, hear that a person wants to run tasks, and say that they live."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from datetime import UTC, datetime

from pamqp.commands import Basic

from orchestration.ledger.service import Document, Json
from orchestration.sandbox.compute.book import Book
from orchestration.sandbox.compute.messages import Heartbeat
from orchestration.sandbox.compute.queues import Message, Queues
from orchestration.sandbox.compute.records import Endpoint, Pulse, UserEndpoint
from orchestration.sandbox.globus.tokens import identity

logger = logging.getLogger(__name__)

TASKS, RESULTS, HEARTBEATS, COMMANDS = "tasks", "results", "heartbeats", "commands"

_COMMAND_SECONDS = 2.0
"""A start command is sent with each submission, but no more often: to one that runs already it means nothing."""

_COMMAND_LIFETIME = 120_000
"""Milliseconds; endpoints ignore commands older than three minutes."""


def task_queue(endpoint: str) -> str:
    return f"{endpoint}.{TASKS}"


class Daemons:
    """`url` is where the broker listens."""

    def __init__(self, book: Book, queues: Queues) -> None:
        self._book = book
        self._queues = queues
        self.url = ""

    def declare(self) -> None:
        """Exchanges and queues: before anybody connects, for clients check that they exist and give up for good."""
        for exchange in (TASKS, RESULTS, HEARTBEATS, COMMANDS):
            self._queues.declare_exchange(exchange)
        for endpoint in self._book.endpoints.values():
            self._queue(endpoint.id, TASKS)
            self._queue(endpoint.id, COMMANDS)
        for user in self._book.user_endpoints.values():
            self._queue(user.id, TASKS)

    def connection(self, endpoint: Endpoint) -> Document:
        """The answer to a registration: all queues that the endpoint program uses."""
        return self._credentials(endpoint.id) | {"command_queue_info": self._queue(endpoint.id, COMMANDS)}

    def user_endpoint(self, endpoint: Endpoint, owner: str, options: Document, runtime: Document) -> UserEndpoint:
        """The one for this person and these options; made if there is none."""
        words = json.dumps([endpoint.id, owner, options], sort_keys=True)
        digest = hashlib.sha256(words.encode()).hexdigest()
        user_id = str(uuid.uuid5(uuid.NAMESPACE_OID, digest))
        found = self._book.user_endpoints.get(user_id)
        if found is None:
            name = f"uep.{endpoint.id}.{digest[:12]}"
            found = UserEndpoint(id=user_id, parent=endpoint.id, owner=owner, name=name, options=options)
        found.runtime = runtime
        self._book.keep_user_endpoint(found)
        self._queue(found.id, TASKS)
        return found

    def start(self, user: UserEndpoint, *, anyway: bool = False) -> None:
        """Tell the endpoint program to run it, unless that is away: it is told when it comes back."""
        if not self._book.endpoints[user.parent].pulse.alive:
            return
        now = time.time()
        if not anyway and now - user.commanded < _COMMAND_SECONDS:
            return
        user.commanded = now
        self._book.keep_user_endpoint(user)
        known = identity(user.owner)
        person: Document = {name: known[name] for name in ("username", "name", "email", "organization")}
        person |= {"sub": user.owner, "identity_provider": known["identity_provider"]}
        command: Document = {
            "command": "cmd_start_endpoint",
            "args": [],
            "kwargs": {
                "name": user.name,
                "user_opts": user.options,
                "user_runtime": user.runtime,
                "amqp_creds": self._credentials(user.id),
            },
            "globus_username": known["username"],
            "globus_effective_identity": user.owner,
            "globus_identity_set": [person],
        }
        properties = Basic.Properties(
            content_type="application/json",
            timestamp=datetime.now(UTC),
            expiration=str(_COMMAND_LIFETIME),
            delivery_mode=2,
        )
        key = f"{user.parent}.{COMMANDS}"
        body = json.dumps(command).encode()
        self._queues.publish(Message(exchange=COMMANDS, key=key, properties=properties, body=body))

    def heard(self, heartbeat: Heartbeat) -> bool:
        """Write down that an endpoint lives, or goes; returns whether an endpoint program came (back) online."""
        found = self._book.endpoints.get(heartbeat.endpoint) or self._book.user_endpoints.get(heartbeat.endpoint)
        if found is None:
            return False
        was_alive = found.pulse.alive
        leaving = heartbeat.period == 0 or not heartbeat.active or bool(heartbeat.error)
        beat = 0.0 if leaving else time.time()
        found.pulse = Pulse(beat=beat, period=heartbeat.period or 30.0, workers=heartbeat.workers)
        if isinstance(found, UserEndpoint):
            found.commanded = 0.0 if leaving else found.commanded
            self._book.keep_user_endpoint(found)
            return False
        self._book.keep_endpoint(found)
        return found.pulse.alive and not was_alive

    def _credentials(self, endpoint: str) -> Document:
        return {
            "endpoint_id": endpoint,
            "task_queue_info": self._queue(endpoint, TASKS),
            "result_queue_info": self._publishing(endpoint, RESULTS),
            "heartbeat_queue_info": self._publishing(endpoint, HEARTBEATS),
        }

    def _queue(self, endpoint: str, kind: str) -> Document:
        name = f"{endpoint}.{kind}"
        self._queues.declare(name)
        self._queues.bind(name, kind, name)
        return {"connection_url": self.url, "exchange": kind, "queue": name}

    def _publishing(self, endpoint: str, kind: str) -> Document:
        options: dict[str, Json] = {
            "exchange": kind,
            "routing_key": f"{endpoint}.{kind}",
            "mandatory": True,
            "properties": {"delivery_mode": 2},
        }
        return {"connection_url": self.url, "exchange": kind, "queue": kind, "queue_publish_kwargs": options}
