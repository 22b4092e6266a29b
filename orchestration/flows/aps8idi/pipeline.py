"""From the raw data of a dataset to results that people see: the same for a new dataset and for one that is done again.

::

    source ──> staging at the site ── correlate ──> where results return ── draw ──> portal, index, catalogue
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from orchestration.config import Endpoint
from orchestration.flows.aps8idi.announcing import Announcement, announcing, moment, shelf_of, withheld
from orchestration.flows.aps8idi.cataloguing import catalogue
from orchestration.flows.aps8idi.checking import Checked, check, distinguished
from orchestration.flows.aps8idi.describing import correlation_receipt, extra, pictures_receipt
from orchestration.flows.aps8idi.jobs import correlating, drawing
from orchestration.flows.aps8idi.many import shares
from orchestration.flows.aps8idi.owning import known_by_file, known_by_path, known_by_result
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.aps8idi.products import Pictures
from orchestration.flows.aps8idi.staging import stage_in
from orchestration.flows.calendar import schedule_pruning
from orchestration.flows.copying import copy
from orchestration.flows.results import Made, bring_back, content, made_before, make, source_of, stands
from orchestration.flows.work import Work, register
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document

Draw = Callable[[], Made]
"""Has the pictures of a correlation, drawn now or before."""

BACK = "results are back"
"""The stage of a run at whose end its results are where they return to; what comes after it is for the portal."""


def process(work: Work, payload: Payload) -> Document:
    """Correlate one dataset, bring the results back, draw them, publish and catalogue them."""
    scan = known(work, payload)
    payload = withheld(work, scan, distinguished(work, payload).flagged(scan))
    with announcing(work, scan, payload) as announcement:
        checked = check(work, payload)
        scan = found(work, checked, announcement)
        made, draw = standing(work, scan, checked) or _correlated(work, scan, checked, announcement)
        return finish(work, scan, checked, made, announcement, draw=draw)


def known(work: Work, payload: Payload, *, version: str = "", carried: bool = True) -> Scan:
    """The dataset in the ledger; with a `version`, its files as they are now. This run is about it, if `carried`."""
    beamline = work.settings.beamline(payload.deployment.beamline)
    return register(
        work,
        payload.folder.text,
        beamline=beamline,
        is_export_control=payload.export_controlled,
        fingerprint=version,
        carried=carried,
    )


def found(work: Work, checked: Checked, announcement: Announcement | None, *, carried: bool = True) -> Scan:
    """The dataset in the version that was looked at, and whose it is, as far as that can be told now."""
    scan = known(work, checked.payload, version=checked.measurement.facts.version, carried=carried)
    scan = known_by_path(work, scan, checked.payload)
    scan = known_by_file(work, scan, checked.source, checked.measurement)
    if announcement is not None:
        announcement.scan, announcement.payload, announcement.found = scan, checked.payload, True
    return scan


def expect(checked: Checked, announcement: Announcement | None) -> None:
    """Have the index say that the result is to come. Not where it is there: its record would be gone for a while."""
    if announcement is not None:
        announcement.placeholder(_taken(checked))


def finish(
    work: Work,
    scan: Scan,
    checked: Checked,
    made: Made,
    announcement: Announcement | None,
    *,
    draw: Draw,
) -> Document:
    """Everything after the correlation. The results themselves go first, and that they are back is said at once."""
    if checked.results is not None:
        bring_back(work, made, homes=_away([checked.results], made))
        _say_back()
    drawn = draw()
    homes = homes_of(work, checked)
    copies = [*_carried(work, made, homes), *_carried(work, drawn, homes), *_lent(work, made, drawn)]
    told = _told(drawn)
    metadata = (told["metadata"] or {}).get("project_metadata", {})
    scan = known_by_result(work, scan, metadata)
    if announcement is not None:
        announcement.scan = scan
        receipt = made.result.receipt
        announcement.final(_taken(checked), metadata=metadata, files=told["files"], receipt=receipt)
    catalogue(work, scan, checked, made, drawn, metadata)
    for present in {each.id: each for each in copies}.values():
        schedule_pruning(work, scan, present)
    return {
        "scan": scan.id,
        "site": checked.site.name,
        "result": checked.correlation.result.text,
        "results_at": "" if checked.results is None else checked.results.name,
        "subject": "" if announcement is None else announcement.subject,
    }


def homes_of(work: Work, checked: Checked) -> list[Endpoint]:
    """Where results are kept: where they return to, and where the index's readers get them."""
    named = [] if checked.results is None else [checked.results.name]
    named += [] if checked.index is None else [shelf_of(checked.index, checked.deployment)]
    return [work.settings.endpoint(name) for name in dict.fromkeys(named)]


def standing(work: Work, scan: Scan, checked: Checked) -> tuple[Made, Draw] | None:
    """The correlation that was made before, by itself or in a batch, and still stands; and how its pictures are had."""
    homes = homes_of(work, checked)
    made = made_before(work, correlating(work.settings, scan, checked.site, checked.correlation))
    if made is not None and stands(work, made, homes=homes):
        return made, partial(_drawn, work, scan, checked, made)
    for share in shares(work, scan, checked):
        made = share.correlation(work)
        if stands(work, made, homes=homes) and stands(work, share.pictures(work), homes=homes):
            return made, partial(share.pictures, work)
    return None


def _correlated(work: Work, scan: Scan, checked: Checked, announcement: Announcement | None) -> tuple[Made, Draw]:
    """The correlation, made now at its site; and how its pictures are had."""
    making = correlating(work.settings, scan, checked.site, checked.correlation)
    expect(checked, announcement)
    raw = stage_in(work, scan, checked.site, checked.correlation, source=checked.source)
    report = making.paths[checked.correlation.receipt]
    made = make(
        work,
        making,
        homes=homes_of(work, checked),
        receipt=lambda outcome: correlation_receipt(content(outcome, report), outcome, raw=raw, site=checked.site.name),
    )
    return made, partial(_drawn, work, scan, checked, made)


def _drawn(work: Work, scan: Scan, checked: Checked, made: Made) -> Made:
    """The pictures of a correlation, drawn now or by an earlier run."""
    pictures, site, homes = Pictures(correlation=checked.correlation), checked.plot_site, homes_of(work, checked)
    making = drawing(work.settings, scan, site, pictures, extra(checked.payload, made.result.receipt))
    drawn = made_before(work, making)
    if drawn is not None and stands(work, drawn, homes=homes):
        return drawn
    destination, source = making.at(work), source_of(work, made, homes=homes)
    if destination.name != source.name:
        copy(work, scan, checked.correlation.datasets, source=source, destination=destination, version=made.version)
    report = making.paths[pictures.files]
    result: Document = {"dataset": "xpcs.result", "endpoint": made.result.endpoint, "path": made.result.path.text}
    return make(
        work,
        making,
        homes=homes,
        receipt=lambda outcome: pictures_receipt(
            outcome, result=result, files=content(outcome, report)["files"], site=site.name
        ),
    )


def _told(drawn: Made) -> Mapping[str, Any]:
    """The list of `files`, each with its SHA-256, and the `metadata` for the index, shortened where it is very long."""
    return content(drawn.outcome, drawn.making.paths[drawn.making.product.report])


def _carried(work: Work, made: Made, homes: Sequence[Endpoint]) -> list[CopyRecord]:
    away = _away(homes, made)
    return [*bring_back(work, made, homes=away)] if away else []


def _lent(work: Work, made: Made, drawn: Made) -> list[CopyRecord]:
    """What the site that drew a correlation has of it: brought from the one that made it, or back from a home."""
    place, known = drawn.making.site.scratch_endpoint, work.ledger.copies.of_scan(made.making.scan.id)
    lent = [each for each in known if (each.endpoint, each.version) == (place, made.version)]
    return [each for each in lent if each.state is CopyState.PRESENT]


def _away(homes: Sequence[Endpoint], made: Made) -> list[Endpoint]:
    """Those that are not where the job has written anyway."""
    return [home for home in homes if home.name != made.making.site.scratch_endpoint]


def _say_back() -> None:
    @task(name=BACK, cache_policy=NO_CACHE, persist_result=False)
    def mark() -> None:
        """There is nothing to do but to be seen by those who wait for it."""

    mark()


def _taken(checked: Checked) -> datetime:
    return moment(checked.measurement.facts.modified)
