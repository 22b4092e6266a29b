"""The client library, held to this: each request is made once, by a client of its own for each thread.

Two things of sfapi_client 0.6 are looked at from inside, and only here:

- Its `get`, `post` and `delete` repeat a request up to ten times after a silence. That doubles jobs: the first request
  may have been heard. `inspect.unwrap` reaches the method below the repetition, which is all that `OnceClient` changes.
  Whoever asks here repeats what is harmless, and looks before anything else.
- A client whose token was refused stays refused: it fetches no other before that one ends. So it is thrown away.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from orchestration.config import Credentials, NerscSite
from orchestration.nersc.auth import read_client_key
from orchestration.nersc.errors import foreign, is_oauth, status_of, translate

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class Verbs(Protocol):
    """What is used of a client; URLs are below the base of the API. A refusal is raised as the HTTP library's error."""

    def get(self, url: str, params: Mapping[str, object] | None = None) -> httpx.Response: ...

    def post(self, url: str, data: Mapping[str, object] | None = None) -> httpx.Response: ...

    def delete(self, url: str) -> httpx.Response: ...

    def close(self) -> None: ...


@functools.cache
def _once_client() -> Callable[..., Verbs]:
    """The client's class. Imported late: it takes a third of a second."""
    with warnings.catch_warnings(record=True):  # Authlib advertises httpx2, with which the client's own retries end
        library: Any = importlib.import_module("sfapi_client.client")
        importlib.import_module("authlib.integrations.httpx_client")
    client: Any = library.Client

    class OnceClient(client):  # type: ignore[misc]
        def get(self, url: str, params: Mapping[str, object] | None = None) -> Any:
            return inspect.unwrap(client.get)(self, url, dict(params or {}))

        def post(self, url: str, data: Mapping[str, object] | None = None, json: Any = None) -> Any:
            return inspect.unwrap(client.post)(self, url, data, json)

        def put(self, url: str, data: Any = None, files: Any = None) -> Any:
            return inspect.unwrap(client.put)(self, url, data, files)

        def delete(self, url: str) -> Any:
            return inspect.unwrap(client.delete)(self, url)

        def __del__(self) -> None:
            # Each thread has one, and nobody is told when a thread ends.
            self.close()

    return OnceClient


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Clients of one site, one for each thread. Nothing is read or asked before the first call.

    Without `credentials` they sign in nowhere, and may ask only what is public.
    """

    site: NerscSite
    credentials: Credentials | None = None
    _threads: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)

    def call(self, ask: Callable[[Verbs], T], *, where: str = "") -> T:
        """What `ask` gives; asked again, once, where this service was not let in: what is refused was not done.

        Raises:
            OrchestrationError: what `translate` makes of the library's errors.
            ConfigError: if the credentials cannot be used.
        """
        place = f"{where}, {self.site.api_url}" if where else self.site.api_url
        client = self._client()  # before `foreign`, which imports the library
        try:
            return self._renewing(client, ask)
        except foreign() as error:
            if is_oauth(error):
                # It keeps whatever the token's address answered, a refusal too, and would show that for ever.
                self._discard()
            raise translate(error, where=place) from error

    def _renewing(self, client: Verbs, ask: Callable[[Verbs], T]) -> T:
        try:
            return ask(client)
        except foreign() as error:
            if self.credentials is None or not (status_of(error) == 401 or is_oauth(error)):
                raise
        # Also with what its files hold now: a client that may submit jobs ends after two days.
        self._discard()
        return ask(self._client())

    def _discard(self) -> None:
        client, self._threads.client = self._client(), None
        client.close()

    def _client(self) -> Verbs:
        found: Verbs | None = getattr(self._threads, "client", None)
        if found is None:
            found = self._threads.client = self._build()
        return found

    def _build(self) -> Verbs:
        urls = {"api_base_url": self.site.api_url.rstrip("/"), "token_url": self.site.token_url}
        if self.credentials is None:
            return _once_client()(**urls)
        key = read_client_key(self.credentials)
        return _once_client()(client_id=key.client_id, secret=key.secret, **urls)
