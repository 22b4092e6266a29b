"""The raw file of an 8.3.2 scan where the jobs of a compute site read it."""

from __future__ import annotations

from collections.abc import Iterator

from orchestration.config import ComputeSite, Endpoint
from orchestration.errors import SourceChanged
from orchestration.flows.bl832.move import BEAMLINE, demand_file
from orchestration.flows.copying import Dataset, copy, look, record_source, whole
from orchestration.flows.work import Work
from orchestration.ledger.copy import RAW, CopyRecord, CopyState, Role
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts, TransferRequest


def stage_in(work: Work, scan: Scan, site: ComputeSite) -> CopyRecord:
    """Carry the raw file to a site, from the nearest place that has it, unless it is there already.

    Raises:
        SourceChanged: if what the beamline's server has is not what acquisition has now.
        SourceMissing: if it is nowhere.
    """
    server, at_server = _server(work, scan)
    _demand_newest(work, scan, server)
    raw = work.settings.endpoint(work.settings.beamline(BEAMLINE).raw)
    path = raw.relative(server.full_path(at_server))
    destination = work.settings.endpoint(site.raw_endpoint)
    if (there := _there(work, scan, destination, path)) is not None:
        return there
    source, found = _under_way(work, scan, destination, path) or _nearest(work, scan, destination) or (raw, path)
    carried = copy(
        work, scan, [Dataset(name=RAW, path=found)], source=source, destination=destination, to={found: path}
    )
    if source == raw and not _known(work, scan, server):
        record_source(work, scan, carried[0], source=server, path=at_server, role=Role.REPLICA)
    return carried[0]


def known_size(work: Work, scan: Scan) -> int | None:
    """Bytes of this version of the raw file, as far as the ledger knows; copies that were deleted had as many."""
    copies = work.ledger.copies.of_scan(scan.id)
    return next((each.size for each in copies if (each.dataset, each.version) == (RAW, scan.fingerprint)), None)


def path_at(work: Work, scan: Scan) -> RelativePath:
    """What the raw file is called at every site."""
    server, at_server = _server(work, scan)
    return work.settings.endpoint(work.settings.beamline(BEAMLINE).raw).relative(server.full_path(at_server))


def _server(work: Work, scan: Scan) -> tuple[Endpoint, RelativePath]:
    return work.settings.endpoint(work.settings.beamline(BEAMLINE).server), scan.path


def _verified(work: Work, scan: Scan) -> Iterator[tuple[Endpoint, CopyRecord]]:
    """The copies of this version of the raw file, with their endpoints."""
    for known in work.ledger.copies.of_scan(scan.id):
        place = work.settings.endpoints.get(known.endpoint)
        if (known.dataset, known.version, known.state) == (RAW, scan.fingerprint, CopyState.PRESENT) and place:
            yield place, known


def _known(work: Work, scan: Scan, endpoint: Endpoint) -> CopyRecord | None:
    return next((known for place, known in _verified(work, scan) if place == endpoint), None)


def _there(work: Work, scan: Scan, destination: Endpoint, path: RelativePath) -> CopyRecord | None:
    """The copy that an earlier run carried to the site, wherever it came from, if it is there as it was."""
    known = _known(work, scan, destination)
    return known if known is not None and known.path == path and whole(work, destination, known) else None


def _under_way(
    work: Work, scan: Scan, destination: Endpoint, path: RelativePath
) -> tuple[Endpoint, RelativePath] | None:
    """Where another run is carrying it from: asked for from there as well, it is one transfer and not two."""
    for record in work.ledger.operations.of_scan(scan.id):
        request = work.services.request_of(record) if record.state.open else None
        if isinstance(request, TransferRequest) and request.destination == destination:
            for item in request.items:
                if item.destination == path:
                    return request.source, item.source
    return None


def _nearest(work: Work, scan: Scan, destination: Endpoint) -> tuple[Endpoint, RelativePath] | None:
    """Of the places that have it: one on the same host spares the way over the network; then the beamline's server."""
    server, at_server = _server(work, scan)
    reached = [each for each in _verified(work, scan) if each[0] != destination and each[0].reaches(destination)]
    near = [(place, known) for place, known in reached if place.uri and place.uri == destination.uri]
    for place, known in near:
        if look(work, place, known.path) is not None:
            return place, known.path
    if (facts := look(work, server, at_server)) is not None:
        demand_file(facts, server, at_server)
        _demand_size(scan, server, facts)
        return None
    far = [(place, known) for place, known in reached if place != server and (place, known) not in near]
    return next(((place, known.path) for place, known in far if look(work, place, known.path) is not None), None)


def _demand_newest(work: Work, scan: Scan, server: Endpoint) -> None:
    """What is reconstructed is the version that acquisition has, if it has one."""
    for known in work.ledger.copies.of_scan(scan.id):
        at_server = known.dataset == RAW and known.endpoint == server.name and known.state is CopyState.PRESENT
        if at_server and scan.fingerprint and known.version != scan.fingerprint:
            raise _outdated(scan, server)


def _demand_size(scan: Scan, server: Endpoint, facts: FileFacts) -> None:
    """Of a file that this service did not carry to the server."""
    size = scan.fingerprint.partition(":")[0]
    if size and int(size) != facts.size:
        raise _outdated(scan, server)


def _outdated(scan: Scan, server: Endpoint) -> SourceChanged:
    return SourceChanged(
        f"{scan.path} was written anew, and {server.name} has the file as it was before",
        where=f"{server.name}:{scan.path}",
        next_step="start new_832_file_flow for it, then this one again",
    )
