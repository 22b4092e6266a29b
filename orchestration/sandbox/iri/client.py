"""Steering the IRI stand-in."""

from __future__ import annotations

import httpx

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.faults import CONTROL
from orchestration.sandbox.iri.settings import COMPUTE


class IriClient:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def turn(self, **knobs: Json) -> None:
        """Change knobs by their names; `Knobs` says what they mean."""
        self._sent("knobs", knobs)

    def switch(self, state: str, *, resource: str = COMPUTE) -> None:
        """``up``, ``down``, ``degraded`` or ``unknown``."""
        self._sent(f"resources/{resource}", {"state": state})

    def announce(self, name: str, *, start: str, end: str = "", kind: str = "planned", status: str = "down") -> str:
        """An incident of the compute resource, times in ISO 8601; returns its identifier."""
        body: Document = {"name": name, "resources": [COMPUTE], "type": kind, "status": status}
        return documents.text(self._sent("incidents", body | {"start": start, "end": end}), "id")

    def begin_maintenance(self, name: str = "maintenance") -> None:
        """A planned incident that goes on from now on: every resource is down."""
        self._sent("incidents", {"name": name, "type": "planned", "status": "down"})

    def end_maintenance(self) -> None:
        self._http.delete(f"{CONTROL}/iri/maintenance").raise_for_status()

    def all_up(self) -> None:
        """Forget incidents and events; every resource is up."""
        self._http.delete(f"{CONTROL}/iri/incidents").raise_for_status()

    def hold(self, held: bool = True) -> None:
        """While held, no job begins."""
        self._sent("hold", {"held": held})

    def end(self, job: str, state: str) -> None:
        """Make a job end in a state of Slurm's, whatever it does."""
        self._sent(f"jobs/{job}", {"state": state})

    def jobs(self) -> list[Document]:
        """Identifier, name and state of all jobs, oldest first."""
        answer = self._http.get(f"{CONTROL}/iri/jobs")
        answer.raise_for_status()
        return documents.objects(documents.decode(answer.content), "jobs")

    def _sent(self, path: str, body: Document) -> Document:
        answer = self._http.post(f"{CONTROL}/iri/{path}", json=body)
        answer.raise_for_status()
        return documents.decode(answer.content)
