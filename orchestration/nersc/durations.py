"""How long a job waited and ran: two things, of which queues and programs are to be judged apart."""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.ledger.service import Document, Json
from orchestration.remote import Times

_MINUTE, _HALF_HOUR, _HOUR = 60.0, 1800.0, 3600.0


def durations(slurm: Times, report: Mapping[str, Json], *, reserved: float | None, sent: float | None) -> Document:
    """In seconds, by Slurm's times or else by those of the runner's `report`; None where neither tells.

    `reserved` is when the job was thought of, `sent` when this process submitted it, None if it was another one.
    """
    began, seconds = _number(report.get("started_at")), _number(report.get("seconds"))
    queued = _put_right(slurm.queued, least=0.0, most=_between(reserved, began))
    ran = _put_right(slurm.ran, least=seconds or 0.0, most=seconds)
    return {
        "queue_seconds": _positive(_between(sent, began) if queued is None else queued),
        "run_seconds": _positive(seconds if ran is None else ran),
    }


def _put_right(told: float | None, *, least: float, most: float | None) -> float | None:
    """Slurm tells the wall clock without its zone.

    Between two of its times there is an hour too few or too many if the facility changed to or from summer time
    meanwhile. That shows where other clocks, which may go wrong by minutes, tell what is possible.
    """
    if told is None:
        return None
    if told < least - _MINUTE:
        return told + _HOUR
    if most is not None and told > most + _HALF_HOUR:
        return told - _HOUR
    return told


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else end - begin


def _positive(seconds: float | None) -> float | None:
    return None if seconds is None else max(0.0, seconds)


def _number(found: Json) -> float | None:
    """None also where a report says 0 of what never was."""
    return float(found) if isinstance(found, int | float) and found else None
