"""Export control of files that have several names: what is said of a link is said of its file, and vice versa."""

from __future__ import annotations

from orchestration.config import Beamline, Endpoint
from orchestration.errors import UnknownName
from orchestration.ledger import Ledger
from orchestration.ledger.scan import scan_identity
from orchestration.paths import RelativePath


def controlled(ledger: Ledger, beamline: Beamline, acquisition: Endpoint, path: RelativePath, *, told: bool) -> bool:
    """Whether a scan is under export control: because the caller was `told`, or as the file that it is a link to.

    Links are followed where acquisition's disk is mounted. A link under export control puts its file under it.
    """
    file = _followed(acquisition, path)
    if file == path:
        return told
    found = told or _flagged(ledger, beamline, path) or _flagged(ledger, beamline, file)
    if found:
        ledger.scans.register(beamline=beamline.id, path=file, export_controlled=True)
    return found


def _followed(endpoint: Endpoint, path: RelativePath) -> RelativePath:
    if endpoint.mount is None:
        return path
    return RelativePath(endpoint.local_path(path).relative_to(endpoint.mount.resolve()).as_posix())


def _flagged(ledger: Ledger, beamline: Beamline, path: RelativePath) -> bool:
    try:
        return ledger.scans.get(scan_identity(beamline.id, path)).export_controlled
    except UnknownName:
        return False
