"""A catalogue and accounts of it, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote

import httpx

from orchestration.ledger.service import Document
from orchestration.sandbox.settings import Account, Settings
from orchestration.sandbox.testing import RunningFacility

PID = "20.500.12345/9f8c2c7e-0000-5000-8000-000000000001"
RAW: Document = {
    "pid": PID,
    "type": "raw",
    "datasetName": "tooth",
    "ownerGroup": "als-1234",
    "accessGroups": ["ingestor"],
    "owner": "Ada",
    "contactEmail": "ada@lbl.gov",
    "sourceFolder": "/raw/tooth",
    "creationTime": "2024-01-01T12:00:00Z",
    "principalInvestigator": "Ada",
    "creationLocation": "ALS 8.3.2",
    "keywords": ["tomography"],
    "scientificMetadata": {"energy": {"value": 20.0, "unit": "keV"}, "note": "fine"},
}
DERIVED: Document = {
    "type": "derived",
    "datasetName": "tooth, reconstructed",
    "ownerGroup": "als-1234",
    "accessGroups": ["ingestor"],
    "owner": "Ada",
    "contactEmail": "ada@lbl.gov",
    "sourceFolder": "/recon/tooth",
    "creationTime": "2024-01-01T13:00:00Z",
    "investigator": "Ada",
    "inputDatasets": [PID],
    "usedSoftware": ["reconstruct 1.0"],
}
BLOCK: Document = {"size": 7, "chkAlg": "sha256"}
BLOCK |= {"dataFileList": [{"path": "tooth.h5", "size": 7, "time": "2024-01-01T12:00:00Z", "chk": "ab"}]}
ATTACHMENT: Document = {"ownerGroup": "als-1234", "caption": "middle slice", "thumbnail": "data:image/png;base64,AAAA"}


def with_people(settings: Settings) -> Settings:
    """The accounts of a facility, and a member of the proposal."""
    ada = Account(username="ada", password="a", groups=("als-1234",), email="ada@lbl.gov")
    eve = Account(username="eve", password="e", groups=("als-9999",), email="eve@lbl.gov")
    return replace(settings, accounts=(*settings.accounts, ada, eve))


@dataclass(frozen=True)
class Person:
    """One account's connection to the catalogue."""

    http: httpx.Client

    def get(self, path: str, **query: object) -> httpx.Response:
        return self.http.get(path, params={name: json.dumps(value) for name, value in query.items()})

    def post(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        return self.http.post(path, json=body)

    def patch(self, path: str, body: Mapping[str, object], **headers: str) -> httpx.Response:
        return self.http.patch(path, json=body, headers=headers)

    def found(self, **where: object) -> list[object]:
        answer = self.get("/datasets", filter={"where": where})
        return [row["pid"] for row in answer.json()]


@contextmanager
def log_in(facility: RunningFacility, username: str, password: str) -> Iterator[Person]:
    """A connection; without rights where the password is wrong."""
    with httpx.Client(base_url=facility.environment()["SCICAT_API_URL"], verify=False) as http:
        answer = http.post("/auth/login", json={"username": username, "password": password})
        token = answer.json().get("access_token", "none")
        http.headers["Authorization"] = f"Bearer {token}"
        yield Person(http)


def at(pid: str, *rest: str) -> str:
    """The route of a dataset: the pid's slash is encoded."""
    return "/".join(["/datasets", quote(pid, safe=""), *rest])
