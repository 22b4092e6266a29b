"""Where the services of the Superfacility API stand-in are, below the facility's address."""

from __future__ import annotations

from orchestration.sandbox.faults import CONTROL

API = "/nersc/api/v1.2"
OIDC = "/nersc/oidc"
TOKEN = "/c2id/token"  # noqa: S105 -- a path
SUPERFACILITY_CONTROL = f"{CONTROL}/superfacility"
