"""A program that catalogues one record and kills itself at a chosen request: ``killed_ingest.py LEDGER WHEN N``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import httpx
from scicat_world import ingest_operation, small_request

from orchestration.config import ScicatSettings, credentials
from orchestration.ledger import Ledger
from orchestration.ledger.perform import perform
from orchestration.scicat import ScicatIngest


def main(ledger_url: str, when: str, number: int) -> None:
    settings = ScicatSettings(api_url=os.environ["SCICAT_API_URL"], service_group=os.environ["SCICAT_INGEST_USER"])
    service = ScicatIngest.connect(settings, credentials())
    hooks = service._client._http.event_hooks
    service._client._http.event_hooks = {**hooks, when: [killer(number)]}
    with Ledger(ledger_url, lease_seconds=1.0) as ledger:
        perform(ledger, ingest_operation(ledger, small_request()), service)


def killer(number: int) -> Callable[[httpx.Request | httpx.Response], None]:
    """Kills this process at the `number`-th POST after the login, before it is sent or when it was answered."""
    seen: list[str] = []

    def hook(event: httpx.Request | httpx.Response) -> None:
        request = event.request if isinstance(event, httpx.Response) else event
        if request.method == "POST" and not request.url.path.endswith("login"):
            seen.append(request.url.path)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
