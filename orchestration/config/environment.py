"""Environment files, and what the service knows only from the environment: its credentials."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from dotenv import dotenv_values
from pydantic import SecretStr

from orchestration.errors import ConfigError, NotSetUp

T = TypeVar("T")

ENV_FILE_VARIABLE = "BEAMLINE_ENV_FILE"
ENV_FILES = (Path(".env"), Path(".sandbox/env"))
"""Looked for in the working directory, the first one that exists is read; the second belongs to the sandbox."""


def environment_file() -> Path | None:
    """The file of variables that `load_environment` reads, if there is one."""
    named = os.environ.get(ENV_FILE_VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"the environment file {path} does not exist",
                where=ENV_FILE_VARIABLE,
                next_step=f"correct {ENV_FILE_VARIABLE} or unset it",
            )
        return path
    return next((path for path in ENV_FILES if path.is_file()), None)


def load_environment() -> Path | None:
    """Set the variables of the environment file that are not set yet; values are taken as written.

    Empty values are passed over, so that a copy of .env.example that is filled in partly does no harm.
    """
    path = environment_file()
    if path is None:
        return None
    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the environment file cannot be read: {error}", where=str(path)) from error
    for name, value in values.items():
        if value and not os.environ.get(name):
            os.environ[name] = value
    return path


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Secrets as found in the environment; None where not set. Each group is demanded only when it is used."""

    globus_client_id: str | None = None
    globus_client_secret: SecretStr | None = None
    globus_compute_client_id: str | None = None
    globus_compute_client_secret: SecretStr | None = None
    globus_compute_endpoint: str | None = None
    scicat_ingest_user: str | None = None
    scicat_ingest_password: SecretStr | None = None
    path_nersc_client_id: Path | None = None
    path_nersc_pri_key: Path | None = None

    def absent(self) -> tuple[str, ...]:
        """The variables that are not set."""
        return tuple(field.name.upper() for field in fields(self) if getattr(self, field.name) is None)

    def globus(self) -> tuple[str, SecretStr]:
        """Identifier and secret of the client that transfers data."""
        return (
            _demand(self.globus_client_id, "GLOBUS_CLIENT_ID", "the identifier of the Globus client"),
            _demand(self.globus_client_secret, "GLOBUS_CLIENT_SECRET", "the secret of the Globus client"),
        )

    def globus_compute(self) -> tuple[str, SecretStr]:
        """Identifier and secret of the client that computes; the transferring one where it has none of its own."""
        if self.globus_compute_client_id is None and self.globus_compute_client_secret is None:
            return self.globus()
        return (
            _demand(self.globus_compute_client_id, "GLOBUS_COMPUTE_CLIENT_ID", "the Globus Compute client"),
            _demand(self.globus_compute_client_secret, "GLOBUS_COMPUTE_CLIENT_SECRET", "the Globus Compute client"),
        )

    def compute_endpoint(self) -> str:
        return _demand(self.globus_compute_endpoint, "GLOBUS_COMPUTE_ENDPOINT", "the Globus Compute endpoint")

    def scicat(self) -> tuple[str, SecretStr]:
        """User and password of the account that writes to the catalogue."""
        return (
            _demand(self.scicat_ingest_user, "SCICAT_INGEST_USER", "the catalogue account of this service"),
            _demand(self.scicat_ingest_password, "SCICAT_INGEST_PASSWORD", "the password of that account"),
        )

    def nersc(self) -> tuple[Path, Path]:
        """Files with the identifier and the private key of the Superfacility API client."""
        return (
            _demand(self.path_nersc_client_id, "PATH_NERSC_CLIENT_ID", "the file with the NERSC client identifier"),
            _demand(self.path_nersc_pri_key, "PATH_NERSC_PRI_KEY", "the file with the NERSC private key"),
        )


def credentials() -> Credentials:
    """The credentials as the environment has them now, environment file included."""
    load_environment()
    return Credentials(
        globus_client_id=_text("GLOBUS_CLIENT_ID"),
        globus_client_secret=_secret("GLOBUS_CLIENT_SECRET"),
        globus_compute_client_id=_text("GLOBUS_COMPUTE_CLIENT_ID"),
        globus_compute_client_secret=_secret("GLOBUS_COMPUTE_CLIENT_SECRET"),
        globus_compute_endpoint=_text("GLOBUS_COMPUTE_ENDPOINT"),
        scicat_ingest_user=_text("SCICAT_INGEST_USER"),
        scicat_ingest_password=_secret("SCICAT_INGEST_PASSWORD"),
        path_nersc_client_id=_path("PATH_NERSC_CLIENT_ID"),
        path_nersc_pri_key=_path("PATH_NERSC_PRI_KEY"),
    )


def smtp_login() -> tuple[str, SecretStr] | None:
    """The account at the mail server, as the environment has it now; None where it takes mail without.

    Raises:
        NotSetUp: if there is a user and no password.
    """
    load_environment()
    user = _text("SMTP_USER")
    if user is None:
        return None
    return user, _demand(_secret("SMTP_PASSWORD"), "SMTP_PASSWORD", "the password of the account at the mail server")


def _text(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _secret(name: str) -> SecretStr | None:
    value = _text(name)
    return None if value is None else SecretStr(value)


def _path(name: str) -> Path | None:
    value = _text(name)
    return None if value is None else Path(value).expanduser()


def _demand(value: T | None, variable: str, meaning: str) -> T:
    if value is None:
        raise NotSetUp(
            f"{variable} ({meaning}) is not set",
            where="environment",
            next_step=f"set {variable} in the environment or in .env (see .env.example), then start the flow again",
        )
    return value
