"""Telling a facility to fail, and asking what really happened there."""

from __future__ import annotations

from typing import Self

import httpx

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.effects import Effect
from orchestration.sandbox.faults import CONTROL, FaultKind, FaultRule
from orchestration.sandbox.iri.client import IriClient
from orchestration.sandbox.search.client import SearchControlClient
from orchestration.sandbox.superfacility.client import SuperfacilityClient


class FaultsClient:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def add(
        self,
        match: str,
        kind: FaultKind | str = FaultKind.STATUS,
        *,
        status: int = 503,
        retry_after: int | None = None,
        delay: float = 0.0,
        times: int = 1,
        skip: int = 0,
        chance: float = 1.0,
    ) -> FaultRule:
        """Let requests fail whose ``METHOD path`` matches; `FaultRule` says what the rest means."""
        rule = FaultRule(
            match=match,
            kind=FaultKind(kind),
            status=status,
            retry_after=retry_after,
            delay=delay,
            times=times,
            skip=skip,
            chance=chance,
        )
        return FaultRule.parse(_sent(self._http, "faults", rule.document()))

    def every(self) -> list[FaultRule]:
        return [FaultRule.parse(row) for row in documents.objects(_asked(self._http, "faults"), "rules")]

    def clear(self) -> None:
        self._http.delete(f"{CONTROL}/faults").raise_for_status()


class CollectionsClient:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def set(
        self,
        collection: str,
        *,
        connected: bool | None = None,
        writable: bool | None = None,
        deny: list[str] | None = None,
        volumes: list[str] | None = None,
        bandwidth: float | None = None,
        paused: bool | str | None = None,
        full: bool | str | None = None,
        expired: bool | None = None,
    ) -> None:
        """Change the switches named, by the id of the collection.

        `deny` are patterns of paths; `volumes` folders that are file systems of their own; `bandwidth` is in bytes per
        second, 0 for no limit; `paused` may be the administrator's message; `full` is True, ``"quota"`` or False;
        `expired` makes its credentials expire.
        """
        switches: Document = {
            "connected": connected,
            "writable": writable,
            "deny": None if deny is None else list[Json](deny),
            "volumes": None if volumes is None else list[Json](volumes),
            "bandwidth": bandwidth,
            "paused": paused,
            "full": full,
            "expired": expired,
        }
        named: Document = {name: value for name, value in switches.items() if value is not None}
        _sent(self._http, f"collections/{collection}", named)

    def every(self) -> list[Document]:
        return documents.objects(_asked(self._http, "collections"), "collections")


class ComputeClient:
    """Globus Compute: endpoints by id, tasks by id."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def endpoints(self) -> list[Document]:
        return documents.objects(_asked(self._http, "compute/endpoints"), "endpoints")

    def switch(self, endpoint: str, *, online: bool | None = None, held: bool | None = None) -> None:
        """Take an endpoint offline, or let its queue stand still: what is submitted meanwhile waits."""
        switches: Document = {"online": online, "held": held}
        named: Document = {name: value for name, value in switches.items() if value is not None}
        _sent(self._http, f"compute/endpoints/{endpoint}", named)

    def tasks(self) -> list[Document]:
        return documents.objects(_asked(self._http, "compute/tasks"), "tasks")

    def kill(self, task: str) -> bool:
        """Kill the process that runs a task of an inline endpoint; returns whether there was one."""
        return documents.flag(_sent(self._http, f"compute/tasks/{task}/kill", {}), "killed")

    def forget(self, task: str = "", *, entirely: bool = False) -> int:
        """Forget the results of finished tasks, or these tasks altogether; of one task, where one is named."""
        answer = _sent(self._http, "compute/forget", {"task": task, "entirely": entirely})
        return documents.whole(answer, "forgotten")


class SandboxClient:
    """The control of the facility at a URL."""

    def __init__(self, url: str) -> None:
        # Plain HTTP on this machine: to read the certificates of the world would take longer than to start a facility.
        self._http = httpx.Client(base_url=url, timeout=30.0, trust_env=False, verify=False)  # noqa: S501
        self.faults = FaultsClient(self._http)
        self.collections = CollectionsClient(self._http)
        self.compute = ComputeClient(self._http)
        self.superfacility = SuperfacilityClient(self._http)
        self.iri = IriClient(self._http)
        self.search = SearchControlClient(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def corrupt(self, collection: str, path: str, *, times: int = 1) -> None:
        """Flip a byte in each of the next `times` copies that arrive at this path of a collection."""
        _sent(self._http, "corrupt", {"collection": collection, "path": path, "times": times})

    def expire_tokens(self) -> int:
        """Make every token of every service invalid; returns how many there were."""
        return documents.whole(_sent(self._http, "expire_tokens", {}), "expired")

    def restart_catalogue(self) -> bool:
        """Start the catalogue's process again; returns whether it had died."""
        return documents.flag(_sent(self._http, "restart_catalogue", {}), "died")

    def reset(self) -> None:
        """Forget everything but the files of the collections."""
        _sent(self._http, "reset", {})

    def effects(self, kind: str = "") -> list[Effect]:
        """What really happened, oldest first; of one kind only where one is named."""
        answer = self._http.get(f"{CONTROL}/effects", params={"kind": kind})
        answer.raise_for_status()
        return [Effect.parse(row) for row in documents.objects(documents.decode(answer.content), "effects")]


def _asked(http: httpx.Client, path: str) -> Document:
    answer = http.get(f"{CONTROL}/{path}")
    answer.raise_for_status()
    return documents.decode(answer.content)


def _sent(http: httpx.Client, path: str, body: Document) -> Document:
    answer = http.post(f"{CONTROL}/{path}", json=body)
    answer.raise_for_status()
    return documents.decode(answer.content)
