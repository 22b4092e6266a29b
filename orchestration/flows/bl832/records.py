"""Catalogue records of beamline 8.3.2: the scan, and what was made of it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from orchestration.config import CatalogueDefaults
from orchestration.flows.bl832.metadata import ScanMetadata
from orchestration.flows.cataloguing import NO_EMAIL, UNKNOWN, derived_identity, raw_identity
from orchestration.ledger.service import Json
from orchestration.scicat import Attachment, DataFile, DerivedDataset, IngestRequest, RawDataset

BEAMLINE_GROUP = "8.3.2"
"""Group of the beamline's staff; under its own name, ``bl832``, the catalogue knows no group."""

_LONGEST_LOG = 10_000
"""Characters; the end of a log says how it went."""


def raw_dataset(metadata: ScanMetadata, *, source_folder: str, defaults: CatalogueDefaults | None = None) -> RawDataset:
    """The record of a scan. `source_folder` is the folder of its file on the endpoint where people find it."""
    defaults = defaults or CatalogueDefaults()
    description = " ".join(metadata.words)
    return RawDataset(
        name=metadata.title,
        owner=metadata.investigator or defaults.owner or UNKNOWN,
        principal_investigator=metadata.investigator or defaults.owner or UNKNOWN,
        contact_email=metadata.email or defaults.contact_email or NO_EMAIL,
        creation_location=metadata.instrument or defaults.creation_location or UNKNOWN,
        instrument_id=metadata.instrument or defaults.instrument or UNKNOWN,
        owner_group=metadata.proposal or defaults.owner_group or BEAMLINE_GROUP,
        access_groups=_readers(metadata.beamline, defaults),
        proposal_id=metadata.proposal or UNKNOWN,
        source_folder=source_folder,
        creation_time=metadata.taken_at,
        description=description,
        sample_id=description,
        keywords=metadata.words,
        data_format="DX",
        scientific_metadata=metadata.scientific,
    )


def raw_request(
    metadata: ScanMetadata, record: RawDataset, *, scan_id: str, thumbnail: str = "", checksum: str = ""
) -> IngestRequest:
    """All that is catalogued of a scan; `thumbnail` is a data URI, `checksum` the file's SHA-256."""
    file = DataFile(path=metadata.file_name, size=metadata.size, time=metadata.written_at, checksum=checksum)
    return IngestRequest(
        identity=raw_identity(scan_id),
        record=record,
        files=(file,),
        attachments=(Attachment(thumbnail=thumbnail, caption="raw image"),) if thumbnail else (),
    )


@dataclass(frozen=True, kw_only=True)
class Product:
    """A result of a scan, as a folder of files on some endpoint."""

    kind: Literal["tiff", "zarr"]
    folder: str
    """Absolute path on that endpoint."""
    files: tuple[DataFile, ...]
    """Paths below `folder`."""
    finished_at: datetime
    software: tuple[str, ...]
    """Name and version each."""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    properties: Mapping[str, Json] = field(default_factory=dict)
    """Facts about the result itself: shape, voxel size, levels, ..."""
    variant: str = ""
    """Tells several results of one kind apart: the job that made it. Without one, a new result updates the record of
    the last, which not every account of the catalogue may do."""
    log: str = ""
    thumbnail: str = ""


def derived_dataset(product: Product, *, raw: RawDataset, raw_pid: str) -> DerivedDataset:
    """The record of a result; it belongs to whom the scan belongs to."""
    return DerivedDataset(
        name=posixpath.basename(product.folder.rstrip("/")),
        owner=raw.owner,
        investigator=raw.principal_investigator,
        contact_email=raw.contact_email,
        owner_group=raw.owner_group,
        access_groups=raw.access_groups,
        proposal_id=raw.proposal_id,
        source_folder=product.folder,
        creation_time=product.finished_at,
        description=f"{raw.description} reconstruction {product.kind}".strip(),
        keywords=tuple(dict.fromkeys((*raw.keywords, "reconstruction", product.kind))),
        input_datasets=(raw_pid,),
        used_software=product.software,
        job_parameters=product.parameters,
        job_log=product.log[-_LONGEST_LOG:],
        scientific_metadata={**product.properties, "format": product.kind},
    )


def derived_request(product: Product, *, scan_id: str, raw: RawDataset, raw_pid: str) -> IngestRequest:
    """All that is catalogued of a result: every file, however many, so that sizes and counts are true."""
    return IngestRequest(
        identity=derived_identity(scan_id, kind=product.kind, variant=product.variant),
        record=derived_dataset(product, raw=raw, raw_pid=raw_pid),
        files=product.files,
        attachments=_slice(product),
    )


def _slice(product: Product) -> tuple[Attachment, ...]:
    return (Attachment(thumbnail=product.thumbnail, caption="reconstructed slice"),) if product.thumbnail else ()


def _readers(beamline: str, defaults: CatalogueDefaults) -> tuple[str, ...]:
    """Files spell the beamline in many ways: ``bl832``, ``'8.3.2',``, ..."""
    name = re.sub(r"^[\"'\s,]+|[\"'\s,]+$", "", beamline.lower())
    named = BEAMLINE_GROUP if name in {"bl832", "als832"} else name
    return tuple(dict.fromkeys(group for group in (named, BEAMLINE_GROUP, *defaults.access_groups) if group))
