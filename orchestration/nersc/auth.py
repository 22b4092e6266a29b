"""The identifier and the private key of the Superfacility API client of this service."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from orchestration.config import Credentials
from orchestration.errors import ConfigError

Jwk: TypeAlias = "dict[str, str | list[str]]"

_MAKE_CLIENT = "make a client with the colour red at iris.nersc.gov (Profile, Superfacility API Clients)"
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class ClientKey:
    """Who this service is at NERSC; the key is never part of a text form."""

    client_id: str
    secret: RSAKey = field(repr=False)
    """What the client library signs its assertions with; read once, which takes longer than many signatures."""


def read_client_key(credentials: Credentials) -> ClientKey:
    """Both files, checked as far as that can be done without asking NERSC.

    The key may be a PEM file (with the identifier in its first line or without), a JWK, or a JSON file with
    ``client_id`` and ``secret``, as NERSC hands them out.

    Raises:
        ConfigError: if a variable is not set, a file cannot be read, others may read the key, or it is no RSA key.
    """
    id_path, key_path = credentials.nersc()
    client_id = _text(id_path, "PATH_NERSC_CLIENT_ID").strip()
    if not _IDENTIFIER.fullmatch(client_id):
        raise ConfigError(
            "this is not the identifier of a Superfacility API client: it is one word of letters and digits",
            where=f"PATH_NERSC_CLIENT_ID, {id_path}",
            next_step=_MAKE_CLIENT,
        )
    return ClientKey(client_id=client_id, secret=_secret(key_path))


def _secret(path: Path) -> RSAKey:
    where = f"PATH_NERSC_PRI_KEY, {path}"
    text = _text(path, "PATH_NERSC_PRI_KEY")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError("others may read the private key", where=where, next_step=f"run: chmod 600 {path}")
    pem = _PEM.search(text)
    return _imported(pem.group() + "\n" if pem else _jwk(text, where), where)


def _jwk(text: str, where: str) -> Jwk:
    try:
        found = json.loads(text)
    except ValueError:
        # What was read may be a key: neither its text nor the parser's error, which carries it, goes on.
        raise _no_key("it is neither PEM nor JSON", where) from None
    inner = found.get("secret", found) if isinstance(found, Mapping) else found
    if isinstance(inner, str):
        return _jwk(inner, where)
    if not isinstance(inner, dict):
        raise _no_key("its JSON is not an object", where)
    return inner


def _imported(key: Jwk | str, where: str) -> RSAKey:
    try:
        found = RSAKey.import_key(key)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _no_key(f"it cannot be read as an RSA key ({type(error).__name__})", where) from None
    if not found.is_private:
        raise _no_key("it holds only the public half", where)
    return found


def _no_key(why: str, where: str) -> ConfigError:
    return ConfigError(
        f"this is no private key of a Superfacility API client: {why}", where=where, next_step=_MAKE_CLIENT
    )


def _text(path: Path, variable: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"the file cannot be read: {why}", where=f"{variable}, {path}", next_step=f"correct {variable} or the file"
        ) from error
