"""The facility that the tests of this folder work on, and an unmodified Globus Compute client of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import globus_sdk
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.sdk.executor import _RESULT_WATCHERS
from globus_compute_sdk.serialize import JSONData, PureSourceTextInspect

from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.compute.settings import COMPUTE_ENDPOINT, LOGIN_ENDPOINT, endpoint_id
from orchestration.sandbox.settings import CLIENT_ID, CLIENT_SECRET
from orchestration.sandbox.testing import RunningFacility


@dataclass(frozen=True)
class Ground:
    facility: RunningFacility
    compute: ClassVar[str] = endpoint_id(COMPUTE_ENDPOINT)
    login: ClassVar[str] = endpoint_id(LOGIN_ENDPOINT)

    @property
    def control(self) -> SandboxClient:
        return self.facility.client

    @property
    def url(self) -> str:
        return f"{self.facility.url}/compute"

    def starts(self, group: str) -> int:
        """How often tasks of a group were given to a process."""
        return sum(effect.key == group for effect in self.control.effects("task-start"))

    def worker_of(self, handle: str) -> int:
        """The process that runs the task of a job."""
        task = handle.rpartition("/")[2]
        return next(int(str(one["pid"])) for one in self.control.compute.tasks() if one["id"] == task)

    def over(self, handle: str) -> bool:
        """Whether the task of a job has ended, by what the facility knows and nobody was told yet."""
        task = handle.rpartition("/")[2]
        return any(one["id"] == task and one["stage"] in {"success", "failed"} for one in self.control.compute.tasks())


def compute_client(url: str, **options: Any) -> Client:
    """The SDK's own client, led to the facility."""
    app = globus_sdk.ClientApp(
        "tests",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        config=globus_sdk.GlobusAppConfig(token_storage="memory"),
    )
    client = Client(
        app=app,
        do_version_check=False,
        code_serialization_strategy=PureSourceTextInspect(),
        data_serialization_strategy=JSONData(),  # type: ignore[no-untyped-call]
    )
    web = client._compute_web_client
    for each in (web.v2, web.v3):
        each.base_url = url
        each.retry_config.max_retries = 0
    client.version_check()
    return client


@contextmanager
def executor(client: Client, endpoint: str, **options: Any) -> Iterator[Any]:
    """Shut down at the end with what it left running in this process."""
    made: Any = Executor(endpoint_id=endpoint, client=client, api_burst_limit=8, api_burst_window_s=1, **options)
    try:
        yield made
    finally:
        made.shutdown(wait=False, cancel_futures=True)
        # They are left running for another executor of the same group; at the end of a test there is none.
        for watcher in list(_RESULT_WATCHERS.values()):
            loop = watcher._connection.ioloop if watcher._connection else None
            watcher.shutdown()  # type: ignore[no-untyped-call]
            watcher.join(10)
            if loop is not None:
                loop.close()  # the SDK leaves that to the garbage collector  # type: ignore[no-untyped-call]


def eventually(ask: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """The first answer that is not false."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.02)
    return answer
