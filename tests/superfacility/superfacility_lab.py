"""The facility as a user of the unmodified client library meets it."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

from orchestration.sandbox.settings import Settings
from orchestration.sandbox.superfacility.client import JobInfo, SuperfacilityClient
from orchestration.sandbox.superfacility.credentials import NERSC_CLIENT_ID
from orchestration.sandbox.superfacility.settings import SuperfacilitySettings
from orchestration.sandbox.testing import RunningFacility, running_facility

with warnings.catch_warnings(record=True):  # Authlib advertises another HTTP library
    importlib.import_module("authlib.integrations.httpx_client")
    _library: Any = importlib.import_module("sfapi_client")
Client, SfApiError = _library.Client, _library.SfApiError
OAuthError: Any = importlib.import_module("authlib.integrations.base_client").OAuthError

HEAD = "#!/bin/bash\n#SBATCH -q realtime -A als -C cpu -N 1 -c 1 -t 5\n"
COLLECTION = "pscratch"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass
class Lab:
    """`folder` is a directory that jobs and the file utilities reach."""

    facility: RunningFacility
    variables: dict[str, str]
    folder: Path
    client: Any
    machine: Any
    token: str = ""

    @property
    def control(self) -> SuperfacilityClient:
        return self.facility.client.superfacility

    @property
    def home(self) -> Path:
        return self.facility.settings.state / "superfacility" / "home" / "alsdev"

    @property
    def key(self) -> str:
        return Path(self.variables["PATH_NERSC_PRI_KEY"]).read_text()

    def new_client(self, **changes: Any) -> Any:
        return new_client(self.variables, **changes)

    def submit(self, commands: str, *directives: str) -> str:
        """The id of a job that does this; what it prints lies in `log`."""
        lines = "".join(f"#SBATCH {each}\n" for each in directives)
        return str(self.machine.submit_job(f"{HEAD}#SBATCH -o {self.folder}/%j.log\n{lines}{commands}\n").jobid)

    def log(self, job: str) -> str:
        return (self.folder / f"{job}.log").read_text()

    def state(self, job: str) -> str:
        return self.control.job(job).state

    def ended(self, job: str) -> JobInfo:
        info: JobInfo = until(lambda: found if (found := self.control.job(job)).over else None)
        return info

    def running(self, job: str, *, mark: str = "") -> None:
        """Wait until the job runs; until its script has made the file `mark`, where one is named."""
        until(lambda: self.state(job) == "RUNNING")
        if mark:
            until((self.folder / mark).exists)


def new_client(variables: dict[str, str], **changes: Any) -> Any:
    words: dict[str, Any] = {
        "client_id": NERSC_CLIENT_ID,
        "secret": Path(variables["PATH_NERSC_PRI_KEY"]).read_text(),
        "api_base_url": variables["SFAPI_API_URL"],
        "token_url": variables["SFAPI_TOKEN_URL"],
        "wait_interval": 0.02,
    }
    return Client(**(words | changes))


@contextmanager
def running_lab(directory: Path, **settings: Any) -> Iterator[Lab]:
    """A facility of one's own; the same directory again is the same one, restarted."""
    chosen = Settings(state=directory, retry=0.05, superfacility=SuperfacilitySettings(**({"grace": 0.3} | settings)))
    with running_facility(directory, (COLLECTION,), settings=chosen) as facility, opened(facility) as lab:
        yield lab


@contextmanager
def opened(facility: RunningFacility) -> Iterator[Lab]:
    lab = Lab(facility, {}, facility.root(COLLECTION), None, None)
    sign_in(lab)
    with lab.new_client(client_id=None, secret=None, access_token=lab.token) as client:
        lab.client = client
        lab.machine = client.compute("perlmutter")
        yield lab


def sign_in(lab: Lab) -> None:
    """Get a token, with one's own proof: to read and check a key takes the client a fifth of a second each time."""
    lab.variables = lab.facility.nersc_environment()
    lab.folder.mkdir(parents=True, exist_ok=True)
    lab.token = asked(lab, signed(lab)).json()["access_token"]
    if lab.client is not None:
        http = lab.client._http_client()
        http.headers["Authorization"] = f"Bearer {lab.token}"
        http.timeout = 60.0
        lab.client._access_token = lab.token
        lab.client._client_user = None


def claims(lab: Lab, **changes: object) -> dict[str, Any]:
    """What a client says of itself; None takes a claim away."""
    now = int(time.time())
    usual = {
        "iss": NERSC_CLIENT_ID,
        "sub": NERSC_CLIENT_ID,
        "aud": lab.variables["SFAPI_TOKEN_URL"],
        "iat": now,
        "exp": now + 60,
        "jti": str(time.time_ns()),
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def signed(lab: Lab, **changes: object) -> str:
    return jwt.encode({"alg": "RS256"}, claims(lab, **changes), _key(lab.key))


def asked(lab: Lab, assertion: str, **changes: str) -> httpx.Response:
    """The answer of the token endpoint."""
    form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    return httpx.post(lab.variables["SFAPI_TOKEN_URL"], data=form | changes, verify=False)


@cache
def _key(pem: str) -> RSAKey:
    return RSAKey.import_key(pem)


def alive(pid: int) -> bool:
    """Whether a process is there, and not only its remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `found` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while True:
        result = found()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {found}")
        time.sleep(0.005)
