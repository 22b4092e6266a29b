"""Cataloguing scans of 8.3.2 and what was made of them."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from orchestration.config import ComputeSite, Endpoint
from orchestration.errors import ConfigError, ScanUnreadable
from orchestration.flows.bl832.metadata import ScanMetadata, read_metadata
from orchestration.flows.bl832.records import Product, derived_request, raw_dataset, raw_request
from orchestration.flows.cataloguing import ingest, listed, making_of, raw_identity, recorded, software_of
from orchestration.flows.thumbnail import picture_thumbnail, projection_thumbnail
from orchestration.flows.tomography import Reconstruction
from orchestration.flows.work import Work
from orchestration.ledger.copy import RAW, CopyRecord, CopyState
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.scicat import RawDataset

SLICE_PICTURE = "slice_xy.png"


@dataclass(frozen=True)
class Catalogued:
    """The record of a scan, and the PID under which the catalogue has it."""

    pid: str
    record: RawDataset


def ingest_raw(work: Work, scan: Scan) -> Catalogued:
    """The record of the scan itself: made of its file where that can be read from here, or as it was made before.

    Raises:
        ConfigError: if it was not made before, and no endpoint that has the file is mounted here.
        ScanUnreadable: if it is no file that can be read as a scan.
    """
    file = _seen_from_here(work, scan)
    known = _catalogued(work, scan) if file is None else None
    if known is not None:
        return known
    if file is None:
        raise _unseen(work, scan)
    beamline = work.settings.beamline(scan.beamline)
    server = work.settings.endpoint(beamline.server)
    metadata = read_metadata(file)
    _learn(work, scan, metadata)
    folder = posixpath.dirname(server.full_path(scan.path))
    record = raw_dataset(metadata, source_folder=folder, defaults=beamline.catalogue)
    request = raw_request(
        metadata,
        record,
        scan_id=scan.id,
        thumbnail=projection_thumbnail(file),
        checksum=_sha256(work, scan, server),
    )
    return Catalogued(ingest(work, scan, request, "catalogue raw"), record)


def demand_metadata(work: Work, scan: Scan, site: ComputeSite) -> None:
    """Asked before the scan is carried to a site: can its results be catalogued afterwards?

    Raises:
        ConfigError: if the file cannot be read from here, at the site neither, and its record was not made before.
    """
    mounted = work.settings.endpoint(site.raw_endpoint).mount is not None
    if not mounted and _seen_from_here(work, scan) is None and _catalogued(work, scan) is None:
        raise _unseen(work, scan)


def ingest_results(
    work: Work, scan: Scan, reconstruction: Reconstruction, result: ResultRecord, copies: Sequence[CopyRecord]
) -> tuple[str, str]:
    """The records of the slices and of the volume, derived from that of the scan; returns their PIDs."""
    raw = ingest_raw(work, scan)
    beamline = work.settings.beamline(scan.beamline)
    scratch = work.settings.endpoint(beamline.scratch)
    picture = _picture(work, reconstruction, [scratch, work.settings.endpoint(result.endpoint)])
    finished_at = datetime.fromtimestamp(result.created_at, UTC)

    def record(kind: Literal["tiff", "zarr"], path: RelativePath) -> str:
        copied = next(copy for copy in copies if copy.endpoint == scratch.name and copy.path == path)
        product = Product(
            kind=kind,
            folder=scratch.full_path(path),
            files=listed(work, [copied], time=finished_at).files,
            finished_at=finished_at,
            software=software_of(result),
            parameters=result.receipt.parameters,
            properties=result.receipt.quality,
            variant=making_of(result),
            thumbnail=picture,
        )
        request = derived_request(product, scan_id=scan.id, raw=raw.record, raw_pid=raw.pid)
        # One record for each making: copies that were fetched anew are the same files, whatever their checksums are.
        known = recorded(work, scan, request.identity)
        return known.pid if known is not None else ingest(work, scan, request, f"catalogue {kind}")

    return record("tiff", reconstruction.tiff), record("zarr", reconstruction.zarr)


def _seen_from_here(work: Work, scan: Scan) -> Path | None:
    """The raw file where this machine can read it, the beamline's server first."""
    beamline = work.settings.beamline(scan.beamline)
    places = [(name, scan.path) for name in (beamline.server, beamline.acquisition)]
    places += [(copy.endpoint, copy.path) for copy in work.ledger.copies.of_scan(scan.id) if _is_raw(copy)]
    for name, path in places:
        endpoint = work.settings.endpoints.get(name)
        if endpoint is not None and endpoint.mount is not None and endpoint.local_path(path).is_file():
            return endpoint.local_path(path)
    return None


def _catalogued(work: Work, scan: Scan) -> Catalogued | None:
    known = recorded(work, scan, raw_identity(scan.id))
    return None if known is None else Catalogued(known.pid, RawDataset.parse(known.record))


def _unseen(work: Work, scan: Scan) -> ConfigError | ScanUnreadable:
    raw = [copy for copy in work.ledger.copies.of_scan(scan.id) if _is_raw(copy)]
    if any(entry.path for copy in raw for entry in copy.manifest):
        return ScanUnreadable(
            f"{scan.path} is a folder, and a scan of 8.3.2 is one file",
            where=raw[0].endpoint,
            next_step="start the flow for each file in it that is a scan",
        )
    server = work.settings.beamline(scan.beamline).server
    return ConfigError(
        f"the metadata of {scan.path} cannot be read: no endpoint that has it is mounted here",
        where=f"globus.globus_endpoints.{server}",
        next_step=f"set the `mount` of {server} in config.yml to where it is visible on this machine, "
        "or start new_832_file_flow where it is",
    )


def _is_raw(copy: CopyRecord) -> bool:
    return copy.dataset == RAW and copy.state is CopyState.PRESENT


def _learn(work: Work, scan: Scan, metadata: ScanMetadata) -> None:
    work.ledger.scans.learn(
        scan.id,
        {
            "title": metadata.title,
            "proposal": metadata.proposal,
            "email": metadata.email,
            "shape": list(metadata.shape),
        },
    )


def _sha256(work: Work, scan: Scan, server: Endpoint) -> str:
    """Of the raw file, if a mover has computed one."""
    for copy in work.ledger.copies.of_scan(scan.id):
        if copy.dataset == RAW and copy.endpoint == server.name and copy.manifest:
            algorithm, _, value = (copy.manifest[0].checksum or "").partition(":")
            return value if algorithm == "sha256" else ""
    return ""


def _picture(work: Work, reconstruction: Reconstruction, places: Sequence[Endpoint]) -> str:
    """The middle slice, from the first place where it can be seen from here; empty if it cannot be."""
    for place in places:
        if place.mount is not None:
            file = place.local_path(reconstruction.preview / SLICE_PICTURE)
            if file.is_file():
                return picture_thumbnail(file)
    work.logger.info("%s: no thumbnail, as none of its folders is mounted here", reconstruction.base)
    return ""
