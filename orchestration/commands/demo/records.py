"""What became of one run of a flow of XPCS: its record in the index, and how far its fits are from the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from orchestration.commands.demo.series import Movie
from orchestration.config import Settings
from orchestration.config.xpcs import XpcsDeployment
from orchestration.flows.services import Services
from orchestration.globus.publishing import RecordState
from orchestration.globus.search import GlobusPublish
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.overview import Overview
from orchestration.ledger.service import Document, Failed, Succeeded


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The fits of g2 in all q-bins against what was put in: medians over the bins with a good fit."""

    bins: int
    good: int
    tau_seconds: float
    tau_error_percent: float
    """Of the distances from the truth; `worst_tau_error_percent` is the largest."""
    worst_tau_error_percent: float
    contrast: float
    contrast_error_percent: float
    baseline_error: float

    @classmethod
    def of(cls, bins: Sequence[Mapping[str, Any]], movie: Movie) -> Fitted | None:
        """From the bins of ``<name>_fits.json``; None if no fit is good."""
        good = [each for each in bins if each["quality"] == "good"]
        if not good:
            return None
        taus = [100 * abs(each["tau_s"] / movie.decay_seconds - 1) for each in good]
        return cls(
            bins=len(bins),
            good=len(good),
            tau_seconds=median(each["tau_s"] for each in good),
            tau_error_percent=round(median(taus), 3),
            worst_tau_error_percent=round(max(taus), 3),
            contrast=round(median(each["contrast"] for each in good), 5),
            contrast_error_percent=round(median(100 * abs(each["contrast"] / movie.contrast - 1) for each in good), 3),
            baseline_error=round(median(abs(each["baseline"] - 1) for each in good), 6),
        )

    def document(self) -> Document:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A run that was followed to its end. `began` is in seconds since the epoch."""

    run: str
    began: float
    seconds: float
    ended: Succeeded | Failed


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one run made, as its files, its copies and the index say. Times are in seconds from the start of the run."""

    title: str
    scan: str
    subject: str
    state: str
    """Of the record in the index; empty if there is none."""
    complete: bool
    results_back: float | None
    """When the results were where they return to."""
    final: float | None
    """When the record was what it is."""
    overhead: float
    """What the run took, less its stages."""
    fitted: Fitted | None
    pictures: tuple[Path, ...]

    @classmethod
    def of(
        cls,
        settings: Settings,
        deployment: XpcsDeployment,
        passage: Passage,
        found: Overview,
        movie: Movie,
        *,
        title: str,
    ) -> Record:
        own = [each for each in found.operations if each.run_id == passage.run]
        published = [each for each in own if each.service == GlobusPublish.name]
        subject = str(published[-1].request["subject"]) if published else ""
        state = _state(settings, deployment, subject)
        result, pictures = (_copy(found, deployment, name, passage) for name in ("xpcs.result", "xpcs.pictures"))
        fitted = None if pictures is None else Fitted.of(_bins(settings, pictures), movie)
        ended_well = isinstance(passage.ended, Succeeded) and state == RecordState.FINAL
        return cls(
            title=title,
            scan=found.scan.id,
            subject=subject,
            state=state,
            complete=ended_well and fitted is not None,
            results_back=None if result is None else round(result.verified_at - passage.began, 2),
            final=_finished(published, since=passage.began) if state == RecordState.FINAL else None,
            overhead=round(passage.seconds - sum(map(_seconds, own)), 2),
            fitted=fitted,
            pictures=() if pictures is None else tuple(sorted(_folder(settings, pictures).glob("*.png"))),
        )

    def document(self) -> Document:
        return {
            "title": self.title,
            "scan": self.scan,
            "subject": self.subject,
            "state": self.state,
            "results_back_seconds": self.results_back,
            "record_seconds": self.final,
            "fits": None if self.fitted is None else self.fitted.document(),
        }


def _copy(found: Overview, deployment: XpcsDeployment, dataset: str, passage: Passage) -> CopyRecord | None:
    """Of what this run made, where results return to."""
    present = [
        copy
        for copy in found.copies
        if (copy.dataset, copy.endpoint, copy.state) == (dataset, deployment.result_endpoint, CopyState.PRESENT)
        and copy.verified_at >= passage.began
    ]
    return present[-1] if present else None


def _folder(settings: Settings, copy: CopyRecord) -> Path:
    return settings.endpoint(copy.endpoint).local_path(copy.path)


def _bins(settings: Settings, pictures: CopyRecord) -> Sequence[Mapping[str, Any]]:
    """Of the fits; empty where nothing was fitted."""
    files = sorted(_folder(settings, pictures).glob("*_fits.json"))
    found: list[dict[str, Any]] = json.loads(files[0].read_text(encoding="utf-8"))["bins"] if files else []
    return found


def _state(settings: Settings, deployment: XpcsDeployment, subject: str) -> str:
    """What the index says of the record now."""
    if not subject or deployment.index is None:
        return ""
    with closing(Services(settings)) as services:
        content = services.search.entry(settings.search.index(deployment.index), subject=subject)
    status = (content or {}).get("status")
    return str(status.get("state", "")) if isinstance(status, dict) else ""


def _finished(published: Sequence[OperationRecord], *, since: float) -> float | None:
    ended = published[-1].finished_at
    return None if ended is None else round(ended - since, 2)


def _seconds(operation: OperationRecord) -> float:
    return (operation.seconds or 0.0) if operation.state is OperationState.SUCCEEDED else 0.0
