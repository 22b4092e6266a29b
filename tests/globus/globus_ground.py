"""The facility that the tests of this folder work on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from orchestration.config import Credentials, Endpoint, TransferPolicy
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.settings import CLIENT_ID, CLIENT_SECRET
from orchestration.sandbox.testing import RunningFacility

CREDENTIALS = Credentials(globus_client_id=CLIENT_ID, globus_client_secret=SecretStr(CLIENT_SECRET))
POLICY = TransferPolicy(min_seconds=600, floor_mb_per_s=20, fault_patience_seconds=0.5)


@dataclass(frozen=True)
class Ground:
    """Two collections, and the endpoints on them."""

    facility: RunningFacility
    beamline: Endpoint
    computer: Endpoint
    personal: Endpoint
    guarded: Endpoint

    @property
    def control(self) -> SandboxClient:
        return self.facility.client

    def folder(self, endpoint: Endpoint) -> Path:
        """The directory behind an endpoint's root."""
        folder = self.facility.root(endpoint.name) / endpoint.root_path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
