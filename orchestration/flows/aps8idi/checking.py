""" "Check payload": everything that can be known before anything is moved, computed or published."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from orchestration import config
from orchestration.conditions import SiteState
from orchestration.config import ComputeSite, Endpoint, GlobusComputeSite, LocalSite, SearchIndex, Settings
from orchestration.config.xpcs import XpcsDeployment
from orchestration.errors import (
    ConfigError,
    EndpointRefused,
    ExportControlled,
    InvalidInput,
    NoSpace,
    ScanUnreadable,
    SiteUnavailable,
    SourceMissing,
)
from orchestration.flows.aps8idi.measurement import Measurement, settled
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.aps8idi.products import Correlation, Qmap
from orchestration.flows.copying import look
from orchestration.flows.jobs import job_seconds
from orchestration.flows.work import Work
from orchestration.ledger.service import Document, Json
from orchestration.policy import Zone
from orchestration.science.errors import ScienceError

RESULT_BYTES = 64 << 20
"""Room that a result and its pictures need at least, besides G2 and two-time functions."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A payload that can be carried out, and everything that it needs."""

    payload: Payload
    site: ComputeSite
    plot_site: ComputeSite
    source: Endpoint
    results: Endpoint | None
    """Where results return to; None if they stay at the site."""
    index: SearchIndex | None
    """None if nothing is published."""
    correlation: Correlation
    notes: tuple[str, ...] = ()
    """What could not be checked from here, and why."""

    @property
    def deployment(self) -> XpcsDeployment:
        return self.payload.deployment

    @property
    def measurement(self) -> Measurement:
        return self.correlation.measurement

    def document(self) -> Document:
        """What would be done, for people."""
        found, notes = self.measurement, list[Json](self.notes)
        files: list[Json] = [*found.parts, found.metadata]
        return {
            **self.payload.document(),
            "files": files,
            "bytes": found.facts.size,
            "site": self.site.name,
            "staging": self.site.raw_endpoint,
            "job_seconds": self.payload.options.walltime_seconds or job_seconds(self.site, found.raw_size),
            "result": self.correlation.result.text,
            "results_to": "" if self.results is None else self.results.name,
            "published_in": "" if self.index is None else self.index.name,
            "not_checked": notes,
        }


def distinguished(work: Work, payload: Payload) -> Payload:
    """The payload, told from those of other raw files in its folder. Named by folder or by file, it is the same."""
    source = work.settings.endpoint(payload.deployment.source)
    facts = look(work, source, payload.folder) if payload.raw_name else None
    return payload if facts is None else payload.among(name for name, _ in facts.manifest if "/" not in name)


def check(work: Work, payload: Payload, *, thorough: bool = False) -> Checked:
    """Look at everything that the payload names; `thorough`ly also at what a job of this machine would look at first.

    Raises:
        ConfigError: if this service may not do it.
        InvalidInput, SourceMissing, SourceChanged: if its data or qmap are not there, or not what they must be.
        SiteUnavailable, EndpointRefused, NoSpace: if one of its places cannot take the work.
        ExportControlled: if the data may not go to its site.
    """
    settings, deployment = work.settings, payload.deployment
    site = settings.site(deployment.site)
    source = settings.endpoint(deployment.source)
    if deployment.service_account is not None:
        demand_account(settings, deployment.service_account)
    _demand_permitted(payload, site)
    _demand_up(work, site)
    _demand_time(payload, site)
    measurement = settled(work, source, payload.folder, payload.raw_name)
    payload = payload.named(measurement.raw)
    qmap = _qmap(work, payload)
    options = payload.options
    correlation = Correlation(
        measurement=measurement,
        qmap=qmap,
        folder=payload.result_folder,
        options=options,
        suffix=payload.suffix,
        request=payload.request,
    )
    published = not (options.skip_publish or payload.export_controlled or deployment.index is None)
    checked = Checked(
        payload=payload,
        site=site,
        plot_site=settings.site(deployment.plots_at),
        source=source,
        results=None if options.skip_transfer_back else settings.endpoint(deployment.result_endpoint),
        index=settings.search.index(str(deployment.index)) if published else None,
        correlation=correlation,
    )
    notes = [*_room(work, checked), *_fit(source, checked, thorough=thorough)]
    return Checked(**{**vars(checked), "notes": tuple(notes)})


def _demand_time(payload: Payload, site: ComputeSite) -> None:
    """What the endpoint would refuse is known before anything is carried there."""
    seconds = payload.options.walltime_seconds
    if seconds and isinstance(site, GlobusComputeSite) and (excess := site.excess(seconds)):
        raise InvalidInput(f"{site.name} does not give that walltime: {excess}", where="options.walltime")


def demand_account(settings: Settings, name: str) -> None:
    """Return if this service is the Globus client that the settings call `name`.

    Raises:
        ConfigError: if it is another, whose endpoints, entries and bills would be others, too.
    """
    wanted, (own, _) = settings.globus.globus_apps[name].client_id, config.credentials().globus()
    if wanted != own:
        raise ConfigError(
            f"this service is the Globus client {own}, and must be {wanted or 'one that is not set'}",
            where=f"globus.globus_apps.{name}",
            next_step="start the worker of this deployment with the credentials of that client",
        )


def _demand_permitted(payload: Payload, site: ComputeSite) -> None:
    if payload.export_controlled and site.place.zone is not Zone.BEAMLINE:
        raise ExportControlled(
            f"{payload.folder} is export-controlled, and {site.name} is outside the beamline",
            where=f"deployment {payload.deployment.name}",
            next_step="choose a deployment whose site is at the beamline; nothing was sent",
        )


def _demand_up(work: Work, site: ComputeSite) -> None:
    condition = work.services.site_condition(site)
    if condition.state is SiteState.DOWN:
        raise SiteUnavailable(
            f"{site.name} is down" + (f": {condition.note}" if condition.note else ""), where=site.name
        )


def _qmap(work: Work, payload: Payload) -> Qmap:
    deployment = payload.deployment
    endpoint = work.settings.endpoint(deployment.qmap_endpoint)
    where = f"{endpoint.name}:{payload.qmap}"
    facts = look(work, endpoint, payload.qmap)
    if facts is None:
        raise SourceMissing(f"there is no qmap {payload.qmap}", where=where, next_step="check its path")
    if facts.is_directory or not facts.size:
        what = "is a folder" if facts.is_directory else "is empty"
        raise ScanUnreadable(
            f"the qmap {payload.qmap} {what}", where=where, next_step="name a file made for this detector"
        )
    return Qmap(endpoint=endpoint, path=payload.qmap, facts=facts)


def _room(work: Work, checked: Checked) -> Iterator[str]:
    """Whether there is space where data is put, as far as that can be seen from here.

    Raises NoSpace, or EndpointRefused if a place does not answer at all.
    """
    size = checked.measurement.facts.size
    places = [(checked.site.raw_endpoint, size), (checked.site.scratch_endpoint, RESULT_BYTES)]
    places += [(checked.results.name, RESULT_BYTES)] if checked.results is not None else []
    places += [(checked.index.endpoint, RESULT_BYTES)] if checked.index is not None and checked.index.endpoint else []
    for name, needed in places:
        endpoint = work.settings.endpoint(name)
        if endpoint.mount is None:
            look(work, endpoint, checked.measurement.folder)  # it has to answer, whatever it has
            yield f"space at {name}: it is not mounted on this machine"
            continue
        if not endpoint.mount.is_dir():
            raise EndpointRefused(
                f"{name} is not there",
                where=str(endpoint.mount),
                next_step="mount it, or correct its `mount` in config.yml",
            )
        free = shutil.disk_usage(endpoint.mount).free
        if free < needed:
            raise NoSpace(f"{name} has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} GB are needed", where=name)


def _fit(source: Endpoint, checked: Checked, *, thorough: bool) -> Iterator[str]:
    """Whether the qmap is one, and of the detector's shape, where both can be read from here.

    Raises:
        InvalidInput: if they do not fit.
    """
    qmap, measurement = checked.correlation.qmap, checked.measurement
    if source.mount is None or qmap.endpoint.mount is None:
        yield "whether the qmap fits the detector: not both are mounted on this machine; the job looks at it first"
        return
    if isinstance(checked.site, LocalSite) and not thorough:
        return  # the job does the same at once
    # They take long to import, and only those need them whose data can be read from here.
    from orchestration.science.xpcs.qmap import read_qmap
    from orchestration.science.xpcs.read import open_raw

    raw, options = source.local_path(measurement.folder / measurement.raw), checked.payload.options.parameters
    try:
        bins = read_qmap(qmap.endpoint.local_path(qmap.path))
        with open_raw(raw) as opened:
            bins.demand_fits(opened.rows, opened.columns, raw=raw)
            options.selected(bins.dynamic_bins)
            options.frames.of(opened.frames)
    except ScienceError as error:
        raise InvalidInput(error.what, where=error.where, next_step=error.next_step) from error
