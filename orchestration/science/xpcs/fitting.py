"""Reports that are short enough to come back with the job that wrote them."""

from __future__ import annotations

from collections.abc import Callable

from orchestration.science.running.outputs import CONTENT_LIMIT
from orchestration.science.xpcs import documents
from orchestration.science.xpcs.documents import Document


def fitting(report: Document) -> Document:
    """A report of such a length that its content comes back with the job; what can be read elsewhere is left out."""
    if report["metadata"] is None:
        return report
    shortened = report
    for shorten in _SHORTER:
        if len(documents.packed(shortened)) <= CONTENT_LIMIT:
            break
        shortened = {**shorten(shortened), "shortened": True}
    return shortened


def _without_bins(report: Document) -> Document:
    metadata = report["metadata"]
    described = metadata.get("project_metadata") if isinstance(metadata, dict) else None
    fits = described.get("fits") if isinstance(described, dict) else None
    if not isinstance(described, dict) or not isinstance(fits, dict):
        return report
    return {**report, "metadata": {"project_metadata": {**described, "fits": {**fits, "bins": []}}}}


def _without_metadata(report: Document) -> Document:
    return {**report, "metadata": None}


_SHORTER: tuple[Callable[[Document], Document], ...] = (_without_bins, _without_metadata)
