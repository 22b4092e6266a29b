"""Export control of files that have several names: what is said of a link is said of its file, and vice versa."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from orchestration.config import Beamline, Endpoint, Settings
from orchestration.ledger import Ledger
from orchestration.ledger.scan import scan_identity
from orchestration.paths import RelativePath


def controlled(ledger: Ledger, settings: Settings, beamline: Beamline, path: RelativePath, *, told: bool) -> bool:
    """Whether a scan is under export control: because the caller was `told`, or as the file that it is a link to, or as
    the scan of another beamline that is the same file.

    Links are followed where acquisition's disk is mounted. A link under export control puts its file under it.
    """
    acquisition = settings.endpoint(beamline.acquisition)
    file = acquisition.followed(path)
    found = told or any(_flagged(ledger, *name) for name in _names(settings, beamline, acquisition, {path, file}))
    if found and file != path:
        ledger.scans.register(beamline=beamline.id, path=file, export_controlled=True)
    return found


def _names(
    settings: Settings, beamline: Beamline, acquisition: Endpoint, paths: Collection[RelativePath]
) -> Iterator[tuple[str, RelativePath]]:
    """All that these files may be known as: of which beamline, by what path."""
    for path in paths:
        yield beamline.id, path
        for other in settings.beamlines.values():
            same = acquisition.same_at(settings.endpoint(other.acquisition), path)
            if other.id != beamline.id and same is not None:
                yield other.id, same


def _flagged(ledger: Ledger, beamline: str, path: RelativePath) -> bool:
    """A scan that is, or one that lies in a folder that is."""
    above = [RelativePath(str(folder)) for folder in path.pure.parents if str(folder) != "."]
    ids = [scan_identity(beamline, each) for each in (path, *above)]
    return any(scan.export_controlled for scan in ledger.scans.among(ids).values())
