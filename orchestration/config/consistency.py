"""What is wrong between the lines of a settings file of which each line by itself is right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from orchestration.config.base import suggestion
from orchestration.config.beamline import Beamline
from orchestration.config.document import Document, Key
from orchestration.config.endpoint import Endpoint
from orchestration.config.models import Settings
from orchestration.config.policies import CopyRequirement, DatasetRule, RetentionRule
from orchestration.config.sites import GlobusComputeSite, NerscSite, RemoteSite
from orchestration.config.xpcs import XpcsDeployment

Fault: TypeAlias = tuple[Key, str]
"""Where it is, and what it is."""

Route: TypeAlias = tuple[str, str]
"""The endpoints from which and to which data goes."""


def faults(settings: Settings, document: Document) -> Iterator[Fault]:
    """Names that lead nowhere, endpoints that are nowhere, proofs without worth, jobs that would be cut off, ..."""
    yield from _nowhere(settings, document)
    yield from _dangling(settings)
    yield from _overrides(settings)
    yield from _worthless_proofs(settings)
    yield from _too_few_storages(settings)
    yield from _unheard_warnings(settings)
    yield from _too_long_jobs(settings)
    yield from _archives(settings)
    yield from _unserved(settings)
    yield from _xpcs(settings)
    yield from _untold(settings)
    yield from _unnamed(settings)


def notes(settings: Settings) -> Iterator[str]:
    """What is no error in the file and will nevertheless stop a flow on this machine."""
    for endpoint in settings.endpoints.values():
        if endpoint.mount is not None and endpoint.uuid is not None and not endpoint.mount.is_dir():
            yield f"the mount of {endpoint.name}, {endpoint.mount}, is not a directory of this machine"
        if endpoint.keep_free is not None and endpoint.mount is None:
            yield f"the free space of {endpoint.name} is not watched here: it is not mounted"
    for beamline in settings.beamlines.values():
        here = [settings.endpoint(name) for name in (beamline.server, beamline.acquisition)]
        if not any(endpoint.mount for endpoint in here):
            yield f"{beamline.id}: scans cannot be read here: set the `mount` of {beamline.server}"
        yield from _blocked(settings, beamline.id, _routes(settings, beamline))
    for name, key, rule in _rules(settings):
        if (rule.grace_days or 0) > 0 and not settings.endpoint(name).can_rename:
            yield f"{'.'.join(map(str, key))}: `grace_days` has no effect where `can_rename` is false"
    for deployment in settings.xpcs.deployments.values():
        yield from _blocked(settings, f"xpcs {deployment.name}", _xpcs_routes(settings, deployment))


def _blocked(settings: Settings, whose: str, routes: Iterable[Route]) -> Iterator[str]:
    for names in routes:
        source, destination = map(settings.endpoint, names)
        if not source.reaches(destination):
            yield (
                f"{whose}: nothing moves data from {source.name} to {destination.name}: "
                "give both a `uuid` (Globus) or both a `mount` (directories of this machine)"
            )


def _routes(settings: Settings, beamline: Beamline) -> Iterator[Route]:
    yield beamline.acquisition, beamline.server
    if beamline.nersc is not None:
        yield beamline.server, beamline.nersc
    for site in map(settings.site, beamline.sites):
        yield beamline.raw, site.raw_endpoint
        yield site.scratch_endpoint, beamline.scratch


def _xpcs_routes(settings: Settings, deployment: XpcsDeployment) -> Iterator[Route]:
    site = settings.site(deployment.site)
    yield deployment.source, site.raw_endpoint
    if deployment.qmaps is not None:
        yield deployment.qmaps, site.raw_endpoint
    yield site.scratch_endpoint, deployment.result_endpoint
    drawing = site if deployment.plot_site is None else settings.site(deployment.plot_site)
    if drawing.scratch_endpoint != site.scratch_endpoint:
        yield site.scratch_endpoint, drawing.scratch_endpoint
        yield drawing.scratch_endpoint, deployment.result_endpoint
    shelf = None if deployment.index is None else settings.search.index(deployment.index).endpoint
    if shelf is not None:
        yield deployment.result_endpoint, shelf


def _nowhere(settings: Settings, document: Document) -> Iterator[Fault]:
    for name, endpoint in settings.endpoints.items():
        key: Key = ("globus", "globus_endpoints", name)
        if endpoint.uuid is None and endpoint.mount is None and (*key, "uuid") not in document.lines:
            yield key, "has neither `uuid` (a Globus collection) nor `mount` (a directory of this machine): add one"


def _dangling(settings: Settings) -> Iterator[Fault]:
    for key, name in _endpoint_names(settings):
        if name not in (settings.places if key[0] == "retention" else settings.endpoints):
            yield key, f"there is no endpoint `{name}`: {suggestion(name, settings.endpoints)}"
    for identifier, beamline in settings.beamlines.items():
        for position, site in enumerate(beamline.sites):
            if site not in settings.compute_sites:
                message = f"there is no compute site `{site}`: {suggestion(site, settings.compute_sites)}"
                yield ("beamlines", identifier, "sites", position), message
        if beamline.streaming is not None and beamline.streaming.site not in settings.compute_sites:
            name = beamline.streaming.site
            message = f"there is no compute site `{name}`: {suggestion(name, settings.compute_sites)}"
            yield ("beamlines", identifier, "streaming", "site"), message


def _endpoint_names(settings: Settings) -> Iterator[tuple[Key, str]]:
    for identifier, beamline in settings.beamlines.items():
        named = {
            "acquisition": beamline.acquisition,
            "server": beamline.server,
            "raw": beamline.raw,
            "scratch": beamline.scratch,
        }
        if beamline.nersc is not None:
            named["nersc"] = beamline.nersc
        if beamline.nersc_results is not None:
            named["nersc_results"] = beamline.nersc_results
        yield from ((("beamlines", identifier, field), name) for field, name in named.items())
        expected = () if beamline.arrivals is None else beamline.arrivals.expected_at or ()
        at: Key = ("beamlines", identifier, "arrivals", "expected_at")
        yield from (((*at, number), name) for number, name in enumerate(expected))
    for identifier, site in settings.compute_sites.items():
        yield ("compute_sites", identifier, "raw_endpoint"), site.raw_endpoint
        yield ("compute_sites", identifier, "scratch_endpoint"), site.scratch_endpoint
        if isinstance(site, RemoteSite):
            yield from ((("compute_sites", identifier, "reads", n), name) for n, name in enumerate(site.reads))
    for identifier in settings.retention:
        yield ("retention", identifier), identifier
    for _, key, requires in _requirements(settings):
        for position, name in enumerate(requires.any_of):
            yield (*key, "any_of", position), name


def _rules(settings: Settings) -> Iterator[tuple[str, Key, DatasetRule | RetentionRule]]:
    """Each rule as it is written, with its endpoint and its place in the file."""
    for identifier, rule in settings.retention.items():
        yield identifier, ("retention", identifier), rule
        for pattern, different in rule.datasets.items():
            yield identifier, ("retention", identifier, "datasets", pattern), different


def _requirements(settings: Settings) -> Iterator[tuple[str, Key, CopyRequirement]]:
    for identifier, key, rule in _rules(settings):
        if rule.requires is not None:
            yield identifier, (*key, "requires"), rule.requires


def _overrides(settings: Settings) -> Iterator[Fault]:
    """An age that operators change has its first value in two places, which must agree."""
    variables = settings.prefect.variables.documents()
    for _, place, rule in _rules(settings):
        if rule.override is None or rule.after_days is None:
            continue
        key: Key = (*place, "override")
        values = variables.get(rule.override.variable)
        if values is None:
            yield (
                (*key, "variable"),
                f"there is no variable `{rule.override.variable}`: {suggestion(rule.override.variable, variables)}",
            )
        elif rule.override.key not in values:
            yield (*key, "key"), f"`{rule.override.variable}` has no such key: {suggestion(rule.override.key, values)}"
        elif values[rule.override.key] != rule.after_days:
            first = f"prefect.variables.{rule.override.variable}.{rule.override.key}"
            message = f"is {rule.after_days:g}, but {first} is {values[rule.override.key]:g}: make them the same"
            yield (*place, "after_days"), message


def _worthless_proofs(settings: Settings) -> Iterator[Fault]:
    for identifier, key, requires in _requirements(settings):
        for position, name in enumerate(requires.any_of):
            here, there = settings.places.get(identifier), settings.places.get(name)
            if here and there and here.shares_storage_with(there):
                message = f"`{name}` is the same storage as `{identifier}`: a file there proves no second copy"
                yield (*key, "any_of", position), f"{message}, name another endpoint"


def _too_few_storages(settings: Settings) -> Iterator[Fault]:
    """Endpoints of one storage hold one copy between them, however many there are."""
    for _, key, requires in _requirements(settings):
        separate: list[Endpoint] = []
        for endpoint in filter(None, map(settings.places.get, requires.any_of)):
            if not any(endpoint.shares_storage_with(other) for other in separate):
                separate.append(endpoint)
        if len(separate) < requires.min_copies:
            yield (
                (*key, "min_copies"),
                f"asks for {requires.min_copies} copies on {len(separate)} separate storages: name more endpoints",
            )


def _unheard_warnings(settings: Settings) -> Iterator[Fault]:
    for _, key, rule in _rules(settings):
        if rule.warn_days is not None and settings.notify.smtp_host is None:
            yield (*key, "warn_days"), "nobody could be warned: set `notify.smtp_host`"
    for name in settings.notify.beamlines:
        if name not in settings.beamlines:
            yield (
                ("notify", "beamlines", name),
                f"there is no beamline `{name}`: {suggestion(name, settings.beamlines)}",
            )


def _too_long_jobs(settings: Settings) -> Iterator[Fault]:
    for identifier, site in settings.compute_sites.items():
        if isinstance(site, GlobusComputeSite) and (excess := site.excess(site.walltime.maximum_seconds)):
            yield ("compute_sites", identifier, "walltime", "maximum_seconds"), excess


def _archives(settings: Settings) -> Iterator[Fault]:
    """Archives that have no jobs, or that are called like an endpoint."""
    for identifier, archive in settings.archives.items():
        site = settings.compute_sites.get(archive.site)
        if site is None:
            message = f"there is no compute site `{archive.site}`: {suggestion(archive.site, settings.compute_sites)}"
            yield ("archives", identifier, "site"), message
        elif not isinstance(site, NerscSite):
            yield ("archives", identifier, "site"), f"`{archive.site}` has no hsi and htar: name one of kind `nersc`"
        if archive.source not in settings.endpoints:
            message = f"there is no endpoint `{archive.source}`: {suggestion(archive.source, settings.endpoints)}"
            yield ("archives", identifier, "source"), message
        if identifier in settings.endpoints:
            yield ("archives", identifier), "is the name of an endpoint as well: copies there could not be told apart"

    for identifier, beamline in settings.beamlines.items():
        if beamline.archive is not None and beamline.archive not in settings.archives:
            message = f"there is no archive `{beamline.archive}`: {suggestion(beamline.archive, settings.archives)}"
            yield ("beamlines", identifier, "archive"), message


def _unserved(settings: Settings) -> Iterator[Fault]:
    """Search indexes whose files are nowhere that a reader could get them from."""
    for identifier, index in settings.search.indexes.items():
        key: Key = ("search", "indexes", identifier)
        if index.endpoint is None:
            if index.https_host is not None:
                yield (*key, "https_host"), "serves no files: add `endpoint`, the endpoint on the collection there"
            continue
        endpoint = settings.endpoints.get(index.endpoint)
        if endpoint is None:
            message = f"there is no endpoint `{index.endpoint}`: {suggestion(index.endpoint, settings.endpoints)}"
            yield (*key, "endpoint"), message
        elif endpoint.uuid is None:
            yield (*key, "endpoint"), f"`{index.endpoint}` is not on a Globus collection: name one with a `uuid`"


def _untold(settings: Settings) -> Iterator[Fault]:
    """Readers of every record or entry who may not be told of the data, so that there could be none."""
    for identifier, beamline in settings.beamlines.items():
        owners, catalogue = beamline.disclosure.owners, beamline.catalogue
        if owners is None:
            continue
        key: Key = ("beamlines", identifier, "disclosure", "owners")
        named = dict.fromkeys(filter(None, (catalogue.owner_group, *catalogue.access_groups)))
        for group in (each for each in named if each not in owners.groups):
            yield (*key, "groups"), f"`{group}`, which `catalogue` names, is not among them: add it there, or here"
        for name, deployment in settings.xpcs.deployments.items():
            index = settings.search.indexes.get(deployment.index or "")
            if deployment.beamline == identifier and index is not None:
                for one in (each for each in index.visible_to if each not in owners.visible_to):
                    message = f"`{one}`, to whom index `{index.name}` of XPCS deployment `{name}` shows entries, is not"
                    yield (*key, "visible_to"), f"{message} among them: change one of the two"


def _unnamed(settings: Settings) -> Iterator[Fault]:
    """Beamlines of which no proposal could be known."""
    for identifier, beamline in settings.beamlines.items():
        acquisition = settings.endpoints.get(beamline.acquisition)
        by_folder = beamline.disclosure.proposal_from == "folder"
        if by_folder and acquisition is not None and acquisition.owner_folder is None:
            message = f"no folder tells it: set `owner_folder` of the endpoint `{acquisition.name}`"
            yield ("beamlines", identifier, "disclosure", "proposal_from"), message


def _xpcs(settings: Settings) -> Iterator[Fault]:
    default, deployments = settings.xpcs.default, settings.xpcs.deployments
    if default is not None and default not in deployments:
        message = f"there is no XPCS deployment `{default}`: {suggestion(default, deployments)}"
        yield ("xpcs", "default"), message
    for identifier, deployment in deployments.items():
        for field, kind, name, known in _xpcs_names(settings, deployment):
            if name is not None and name not in known:
                message = f"there is no {kind} `{name}`: {suggestion(name, known)}"
                yield ("xpcs", "deployments", identifier, field), message


def _xpcs_names(
    settings: Settings, deployment: XpcsDeployment
) -> Iterator[tuple[str, str, str | None, Mapping[str, object]]]:
    """The key of each name, of what it is the name, the name itself, and those that there are."""
    yield "beamline", "beamline", deployment.beamline, settings.beamlines
    yield "source", "endpoint", deployment.source, settings.endpoints
    yield "qmaps", "endpoint", deployment.qmaps, settings.endpoints
    yield "results", "endpoint", deployment.results, settings.endpoints
    yield "site", "compute site", deployment.site, settings.compute_sites
    yield "plot_site", "compute site", deployment.plot_site, settings.compute_sites
    yield "index", "search index", deployment.index, settings.search.indexes
    yield "service_account", "Globus client", deployment.service_account, settings.globus.globus_apps
