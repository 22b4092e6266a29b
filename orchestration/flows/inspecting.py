"""What a proof wants to know of the world: what stands at a place, and whether its bytes are what they were."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestration.config import Endpoint
from orchestration.errors import DeletionUnproven
from orchestration.flows.checksumming import verified_again
from orchestration.flows.rereading import verify_archived
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord, Role
from orchestration.ledger.operation import OperationState
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts


@dataclass(frozen=True)
class Inspection:
    """`patience` is that of `Services.look`. One that does not compute asks for no checksums: a person waits.

    What it has read once it does not read again: if that was written to since, a look tells.
    """

    work: Work
    patience: float | None = None
    computes: bool = True
    _read: dict[int, CopyRecord] = field(default_factory=dict)
    """Copies as they were when their checksums had been computed, by their ids."""

    def look(self, endpoint: Endpoint, path: RelativePath) -> FileFacts | None:
        return self.work.services.look(endpoint, path, patience=self.patience)

    def is_empty(self, endpoint: Endpoint) -> bool:
        patience = self.work.settings.transfer.min_seconds if self.patience is None else self.patience
        return self.work.services.is_empty(endpoint, patience=patience)

    def checked(self, copy: CopyRecord) -> CopyRecord:
        if not self.computes:
            raise DeletionUnproven("they are computed again when it is to be deleted", where=copy.endpoint)
        if self._read.get(copy.id) != copy:
            verify = verify_archived if copy.role is Role.ARCHIVE else verified_again
            self._read[copy.id] = verify(self.work, copy)
        return self._read[copy.id]

    def catalogued(self, scan_id: str) -> bool:
        """Asked of the catalogue itself: what it was given once may have been removed since."""
        for record in self.work.ledger.operations.of_scan(scan_id):
            pid = (record.evidence or {}).get("pid")
            given = record.service == "scicat.ingest" and record.state is OperationState.SUCCEEDED
            if given and isinstance(pid, str) and self.work.services.catalogue.knows(pid):
                return True
        return False
