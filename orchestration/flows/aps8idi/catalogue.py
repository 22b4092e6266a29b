"""Cataloguing measurements of 8-ID and what was made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestration.flows.cataloguing import (
    NO_EMAIL,
    UNKNOWN,
    derived_identity,
    ingest,
    listed,
    making_of,
    raw_identity,
    recorded,
    software_of,
)
from orchestration.flows.thumbnail import picture_thumbnail
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.scicat import Attachment, DerivedDataset, IngestRequest, RawDataset

INSTRUMENT = "8-ID-I"
"""Where the file names none."""
KIND = "xpcs"

_UNITS: Mapping[str, tuple[str, str]] = {
    "count_time_s": ("count_time", "s"),
    "frame_time_s": ("frame_time", "s"),
    "duration_s": ("duration", "s"),
    "energy_kev": ("energy", "keV"),
    "x_pixel_size": ("x_pixel_size", "m"),
    "y_pixel_size": ("y_pixel_size", "m"),
    "q_per_pixel": ("q_per_pixel", "1/angstrom"),
    "q_min": ("q_min", "1/angstrom"),
    "q_max": ("q_max", "1/angstrom"),
    "diffusion": ("diffusion", "angstrom^2/s"),
    "diffusion_error": ("diffusion_error", "angstrom^2/s"),
}
"""What the catalogue calls the numbers of ``metadata.json`` that have a unit, and the unit."""

_MEASURED: Mapping[str, tuple[str, ...]] = {
    "sample": ("name",),
    "acquisition": (
        "title",
        "identifier",
        "schema_version",
        "plan_name",
        "count_time_s",
        "frame_time_s",
        "incident_monitor",
        "transmitted_monitor",
    ),
    "beam": ("energy_kev",),
    "detector": ("name", "rows", "columns", "x_pixel_size", "y_pixel_size"),
}
"""By section of ``metadata.json``: what is of the measurement, however it is correlated."""

_CORRELATED: Mapping[str, tuple[str, ...]] = {
    "acquisition": ("stride_frames", "average_frames", "processed_frames", "duration_s", "mean_counts"),
    "detector": ("valid_fraction",),
    "geometry": ("center_x", "center_y", "pixel_size", "distance", "q_per_pixel"),
    "q_bins": ("qmap_hash", "map_names", "map_units", "dynamic", "static", "q_min", "q_max"),
}
_LAW = ("exponent", "exponent_error", "diffusion", "diffusion_error", "reduced_chi2", "bins")


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the catalogue is told of a measurement and its correlation; texts are empty where nothing is known."""

    name: str
    title: str
    owner: str
    proposal: str
    sample: str
    instrument: str
    analysis: str
    """``Multitau``, ..."""
    measured_at: datetime | None
    measurement: Document
    """Scientific metadata, with units, of the raw data."""
    correlation: Document
    """And of the result."""

    @classmethod
    def parse(cls, metadata: Mapping[str, Json]) -> Described:
        """Of what ``metadata.json`` has as ``project_metadata``."""
        acquisition, started = _section(metadata, "acquisition"), _text(metadata, "start_time")
        named = {name: metadata.get(name) for name in ("experiment", "cycle", "organization", "facility")}
        return cls(
            name=_text(metadata, "name"),
            title=_text(acquisition, "title"),
            owner=_text(acquisition, "owner"),
            proposal=_text(acquisition, "proposal_id"),
            sample=_text(_section(metadata, "sample"), "name"),
            instrument=_text(acquisition, "beamline"),
            analysis=_text(metadata, "analysis_type"),
            measured_at=datetime.fromisoformat(started) if started else None,
            measurement={**named, **_chosen(metadata, _MEASURED)},
            correlation={**_chosen(metadata, _CORRELATED), "fits": _fits(_section(metadata, "fits"))},
        )

    @property
    def words(self) -> tuple[str, ...]:
        """What people search for."""
        return tuple(dict.fromkeys(word for word in (self.title, self.sample, KIND) if word))


def ingest_raw(work: Work, scan: Scan, described: Described, files: Sequence[CopyRecord]) -> str:
    """The PID of the record of the measurement; `files` are its copies where people find them.

    One that was made of the same files stays as it is, whatever another correlation says of the measurement: few
    accounts of a catalogue may change a record.

    Raises:
        PolicyRefused: if nothing about the scan may go to the catalogue; nothing was sent.
    """
    taken = described.measured_at or datetime.fromtimestamp(scan.registered_at, UTC)
    found = listed(work, files, time=taken)
    common = _common(work, scan, described)
    record = RawDataset(
        **common,
        name=scan.path.name,
        source_folder=found.folder,
        creation_time=taken,
        keywords=described.words,
        scientific_metadata=described.measurement,
        principal_investigator=common["owner"],
        creation_location=work.settings.beamline(scan.beamline).catalogue.creation_location or _instrument(described),
        instrument_id=_instrument(described),
        sample_id=described.sample,
    )
    request = IngestRequest(identity=raw_identity(scan.id), record=record, files=found.files)
    known = recorded(work, scan, request.identity)
    return known.pid if known is not None and known.lists(found.files) else ingest(work, scan, request, "catalogue raw")


def ingest_result(
    work: Work,
    scan: Scan,
    described: Described,
    result: ResultRecord,
    copied: CopyRecord,
    raw_pid: str,
    picture: Path | None,
) -> str:
    """The PID of the record of the result, which was copied to where people find it; `picture` is a PNG file of its g2.

    It is derived from that of the measurement.

    Raises:
        PolicyRefused: if nothing about the scan may go to the catalogue; nothing was sent.
    """
    identity = derived_identity(scan.id, kind=KIND, variant=making_of(result))
    known = recorded(work, scan, identity)
    if known is not None:
        return known.pid
    finished_at = datetime.fromtimestamp(result.created_at, UTC)
    found = listed(work, [copied], time=finished_at)
    common = _common(work, scan, described)
    record = DerivedDataset(
        **common,
        name=described.name or result.path.stem,
        source_folder=found.folder,
        creation_time=finished_at,
        keywords=tuple(dict.fromkeys((*described.words, described.analysis or KIND))),
        scientific_metadata={**described.correlation, "quality": result.receipt.quality},
        investigator=common["owner"],
        input_datasets=(raw_pid,),
        used_software=software_of(result),
        job_parameters=result.receipt.parameters,
    )
    pictures = () if picture is None else (Attachment(thumbnail=picture_thumbnail(picture), caption="g2"),)
    request = IngestRequest(identity=identity, record=record, files=found.files, attachments=pictures)
    return ingest(work, scan, request, f"catalogue {KIND}")


def _common(work: Work, scan: Scan, described: Described) -> dict[str, Any]:
    """What both records say of whose they are."""
    defaults = work.settings.beamline(scan.beamline).catalogue
    proposal = work.settings.proposal(scan.beamline, scan.path.text, scan.facts) or described.proposal
    return {
        "owner": described.owner or defaults.owner or UNKNOWN,
        "contact_email": defaults.contact_email or NO_EMAIL,
        "owner_group": proposal or defaults.owner_group or scan.beamline,
        "access_groups": defaults.access_groups,
        "proposal_id": described.proposal or UNKNOWN,
        "description": described.title,
    }


def _instrument(described: Described) -> str:
    return described.instrument or INSTRUMENT


def _chosen(metadata: Mapping[str, Json], keys: Mapping[str, tuple[str, ...]]) -> Document:
    return {section: _with_units(_section(metadata, section), names) for section, names in keys.items()}


def _fits(fits: Mapping[str, Json]) -> Document:
    """How well the bins could be fitted, and what law they follow; the fits themselves are in the result."""
    bins = fits.get("bins")
    return {
        "model": fits.get("model"),
        "good": fits.get("good"),
        "bins": len(bins) if isinstance(bins, list) else 0,
        "power_law": _with_units(_section(fits, "power_law"), _LAW),
    }


def _with_units(section: Mapping[str, Json], names: Sequence[str]) -> Document:
    """Only what is known: most of it is null where the file has none."""
    found: Document = {}
    for name in names:
        value = section.get(name)
        if value is not None and name in _UNITS:
            called, unit = _UNITS[name]
            found[called] = {"value": value, "unit": unit}
        elif value is not None:
            found[name] = value
    return found


def _section(document: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _text(document: Mapping[str, Json], name: str) -> str:
    found = document.get(name)
    return found if isinstance(found, str) else ""
