"""The catalogue: what was measured, what was made of it, and where it is (SciCat)."""

from __future__ import annotations

from orchestration.scicat.catalog import ScicatIngest, dataset_pid
from orchestration.scicat.client import ScicatClient
from orchestration.scicat.places import PlaceRequest, ScicatPlaces
from orchestration.scicat.records import (
    CATALOGUE,
    Attachment,
    DataFile,
    DerivedDataset,
    IngestRequest,
    RawDataset,
    Record,
    files_below,
)

__all__ = [
    "CATALOGUE",
    "Attachment",
    "DataFile",
    "DerivedDataset",
    "IngestRequest",
    "PlaceRequest",
    "RawDataset",
    "Record",
    "ScicatClient",
    "ScicatIngest",
    "ScicatPlaces",
    "dataset_pid",
    "files_below",
]
