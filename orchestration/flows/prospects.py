"""Finding out what is known of each site, before work is given to one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import ComputeSite, GlobusComputeSite, IriSite, LocalSite, NerscSite, RemoteSite
from orchestration.errors import OrchestrationError
from orchestration.flows.asking import answers
from orchestration.flows.copying import look
from orchestration.flows.siting import Prospect
from orchestration.flows.work import Work
from orchestration.ledger.copy import RAW, CopyState
from orchestration.ledger.queues import Queue
from orchestration.ledger.scan import Scan
from orchestration.policy import Zone

DAY = 24 * 3600.0

SERVICES = {LocalSite: "local.jobs", NerscSite: "nersc.jobs", GlobusComputeSite: "globus.compute", IriSite: "iri.jobs"}
"""How the ledger calls what runs the jobs of each kind of site."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a piece of work needs: its input in bytes, and how many seconds its job gets at a site."""

    size: int
    seconds: Callable[[ComputeSite], float]


def size_of(work: Work, scan: Scan) -> int:
    """Bytes of the raw file; 0 if nobody has seen it yet."""
    known = [copy.size for copy in work.ledger.copies.of_scan(scan.id) if copy.dataset == RAW]
    if known:
        return known[-1]
    server = work.settings.endpoint(work.settings.beamline(scan.beamline).server)
    facts = look(work, server, scan.path)
    return 0 if facts is None else facts.size


def prospects(
    work: Work, scan: Scan, sites: Sequence[ComputeSite], *, needs: Needs, left: Mapping[str, str]
) -> list[Prospect]:
    """Of each site, in the same order. All are asked at the same time; who may not have the data is not asked."""
    possible = [site for site in sites if _may_have(scan, site) and site.name not in left]
    seconds = work.settings.siting.answer_seconds
    heard = answers({site.name: partial(condition, work, site) for site in possible}, seconds=seconds)
    return [
        _prospect(
            work, scan, site, needs=needs, condition=_heard(heard.get(site.name), seconds), left=left.get(site.name, "")
        )
        for site in sites
    ]


def condition(work: Work, site: ComputeSite) -> SiteCondition:
    """How a site says that it is. A site that this service is not set up for is down for it.

    Raises:
        OrchestrationError: if it does not say.
    """
    return work.services.site_condition(site)


def _heard(answer: SiteCondition | Exception | None, seconds: float) -> SiteCondition:
    match answer:
        case SiteCondition():
            return answer
        case None:
            return SiteCondition(state=SiteState.UNKNOWN, note=f"no answer in {seconds:g} s", answered=False)
        case OrchestrationError():
            return SiteCondition(state=SiteState.UNKNOWN, note=answer.what, answered=False)
        case _:
            raise answer


def _may_have(scan: Scan, site: ComputeSite) -> bool:
    return site.zone is Zone.BEAMLINE or not scan.export_controlled


def _prospect(
    work: Work, scan: Scan, site: ComputeSite, *, needs: Needs, condition: SiteCondition, left: str
) -> Prospect:
    seconds = needs.seconds(site)
    there = _data_there(work, scan, site)
    rate = work.settings.transfer.floor_mb_per_s * 1e6
    return Prospect(
        site=site.name,
        zone=site.zone,
        condition=condition,
        job_seconds=seconds,
        node_hours=site.nodes * seconds / 3600 if isinstance(site, RemoteSite) else 0.0,
        queue_seconds=_wait(work, site),
        copy_seconds=0.0 if there else needs.size / rate,
        data_there=there,
        left=left,
    )


def _data_there(work: Work, scan: Scan, site: ComputeSite) -> bool:
    """Whether the ledger has a verified copy of this version of the raw file where the jobs of the site read."""
    return any(
        copy.dataset == RAW
        and copy.endpoint == site.raw_endpoint
        and copy.state is CopyState.PRESENT
        and copy.version == scan.fingerprint
        for copy in work.ledger.copies.of_scan(scan.id)
    )


def service_name(site: ComputeSite) -> str:
    """Of its jobs in the ledger; without making their client, whose import takes long."""
    kind = next(name for known, name in SERVICES.items() if isinstance(site, known))
    return kind if isinstance(site, LocalSite) else f"{kind}@{site.name}"


def _wait(work: Work, site: ComputeSite) -> float | None:
    policy = work.settings.siting
    found = work.ledger.queues.of(service_name(site), seconds=policy.recent_days * DAY, most=policy.recent_jobs)
    return _behind_others(found) if isinstance(site, LocalSite) else found.wait


def _behind_others(queue: Queue) -> float | None:
    """This machine keeps no book of waiting times: those before it take as long as the last ones took."""
    return 0.0 if queue.going_on == 0 else None if queue.run is None else queue.going_on * queue.run
