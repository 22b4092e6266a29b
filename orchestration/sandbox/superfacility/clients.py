"""The clients that may ask for tokens: those of the settings, and those that the control adds or lets expire."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from joserfc.jwk import KeyParameters, RSAKey

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility.settings import RegisteredClient

_KIND = "sf-client"


class Clients:
    def __init__(self, registered: Iterable[RegisteredClient], store: Store) -> None:
        self._registered = {client.id: client for client in registered}
        self._store = store
        self._added: dict[str, RegisteredClient] = {}

    def every(self) -> list[RegisteredClient]:
        found = dict(self._registered)
        found.update({key: _parsed(key, document) for key, document in self._store.every(_KIND)})
        return list(found.values())

    def get(self, id_: str) -> RegisteredClient | None:
        document = self._store.get(_KIND, id_)
        return self._registered.get(id_) if document is None else _parsed(id_, document)

    def add(self, client: RegisteredClient) -> None:
        """Register, or register anew."""
        self._added[client.id] = client
        self._put(client)

    def expire(self, client: RegisteredClient) -> None:
        """Make it a client whose time has passed."""
        self._put(replace(client, expires=time.time() - 1))

    def reset(self) -> None:
        """All as they were registered; called when the store has been cleared."""
        for client in self._added.values():
            self._put(client)

    def _put(self, client: RegisteredClient) -> None:
        document: Document = {
            "jwk": client.jwk,
            "user": client.user,
            "name": client.name,
            "expires": client.expires,
        }
        self._store.put(_KIND, client.id, document)


def new_key() -> RSAKey:
    """A key pair such as a user makes on the pages of the facility. Takes some tenths of a second."""
    return RSAKey.generate_key(2048, parameters=cast(KeyParameters, {"alg": "RS256", "use": "sig"}))


def public_jwk(key: RSAKey) -> Document:
    """What is registered of it."""
    return cast(Document, key.as_dict(private=False))


def private_pem(key: RSAKey) -> str:
    """What the user keeps of it."""
    return key.as_pem(private=True).decode()


def _parsed(id_: str, document: Document) -> RegisteredClient:
    expires = document.get("expires")
    return RegisteredClient(
        id=id_,
        jwk=documents.object_at(document, "jwk"),
        user=documents.text(document, "user"),
        name=documents.text(document, "name"),
        expires=float(expires) if isinstance(expires, int | float) else None,
    )
