"""The key pair of the client that a sandbox or a test uses: made on this machine, good for nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestration.ledger.service import Document

NERSC_CLIENT_ID = "sandboxclient"
"""13 characters, as all of them have."""


@dataclass(frozen=True)
class Credential:
    """The files of the client in a folder, readable by their owner only."""

    folder: Path

    @property
    def id_file(self) -> Path:
        return self.folder / "nersc_client_id"

    @property
    def key_file(self) -> Path:
        """PEM."""
        return self.folder / "nersc_key.pem"

    def environment(self) -> dict[str, str]:
        """The variables that lead this project to them."""
        return {"PATH_NERSC_CLIENT_ID": str(self.id_file), "PATH_NERSC_PRI_KEY": str(self.key_file)}

    def make(self) -> Document:
        """Write them, unless they are there already; the public half of the key as a JWK, to be registered."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.key_file.exists():
            _write(self.key_file, _new_pem())
        _write(self.id_file, NERSC_CLIENT_ID + "\n")
        return _public(self.key_file.read_text())


@cache
def _public(pem: str) -> Document:
    from joserfc.jwk import RSAKey

    from orchestration.sandbox.superfacility import clients

    return clients.public_jwk(RSAKey.import_key(pem))


@cache
def _new_pem() -> str:
    """One for all facilities of a process: a key takes some tenths of a second."""
    from orchestration.sandbox.superfacility import clients

    return clients.private_pem(clients.new_key())


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    part.write_text(text)
    part.replace(path)
