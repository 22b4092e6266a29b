"""The access token that an IRI facility lets this service in with."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Protocol

from dotenv import dotenv_values

from orchestration.config import Credentials, IriSite, credentials, environment_file, load_environment
from orchestration.errors import ConfigError, NotSetUp, ServiceUnavailable


class Bearer(Protocol):
    """Where the token comes from."""

    def token(self) -> str:
        """Raises ConfigError where there is none, ServiceUnavailable where it cannot be fetched now."""
        ...

    def renew(self, stale: str) -> str | None:
        """Another token than `stale`, which was refused; None if there is none."""
        ...


def bearer(site: IriSite) -> Bearer:
    """A token of Globus where the site names a scope of it, otherwise that of its environment variable."""
    return GlobusToken(site.globus_scope) if site.globus_scope else EnvironmentToken(site.token_variable)


@dataclass(frozen=True)
class EnvironmentToken:
    """What somebody, or a job of the machine, puts into the environment or the environment file."""

    variable: str

    def token(self) -> str:
        load_environment()
        found = os.environ.get(self.variable, "").strip()
        if not found:
            raise NotSetUp(
                f"{self.variable} (the access token of the IRI facility) is not set",
                where="environment",
                next_step=f"set {self.variable} in the environment or in .env, then start the flow again",
            )
        return found

    def renew(self, stale: str) -> str | None:
        """The file may have a newer one than this process began with."""
        path = environment_file()
        found = (dotenv_values(path, interpolate=False).get(self.variable) or "").strip() if path else ""
        if not found or found == stale:
            return None
        os.environ[self.variable] = found
        return found


@dataclass
class GlobusToken:
    """A token for the facility's own scope, given to this service's Globus client. One for all threads."""

    scope: str
    credentials: Credentials | None = None
    _token: str = field(default="", init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def token(self) -> str:
        with self._lock:
            self._token = self._token or self._fetch()
            return self._token

    def renew(self, stale: str) -> str | None:
        with self._lock:
            if self._token == stale:
                self._token = self._fetch()
            return self._token

    def _fetch(self) -> str:
        import globus_sdk  # only where it is used: it takes a third of a second

        identifier, secret = (self.credentials or credentials()).globus()
        client = globus_sdk.ConfidentialAppAuthClient(identifier, secret.get_secret_value())
        try:
            answer = client.oauth2_client_credentials_tokens(requested_scopes=self.scope)
        except globus_sdk.AuthAPIError as error:
            if error.http_status >= 500 or error.http_status == 429:
                raise ServiceUnavailable("Globus Auth cannot serve now", where=self.scope) from error
            raise ConfigError(
                f"Globus gives this service no token for the facility: {error.message or error.code}",
                where=self.scope,
                next_step="check GLOBUS_CLIENT_ID, GLOBUS_CLIENT_SECRET and `globus_scope` of the site",
            ) from error
        except globus_sdk.NetworkError as error:
            raise ServiceUnavailable("Globus Auth does not answer", where=self.scope) from error
        finally:
            client.close()
        found = next(iter(answer.by_resource_server.values()))
        return str(found["access_token"])
