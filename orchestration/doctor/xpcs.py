"""Deployments of XPCS: is all there that one of them needs?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from orchestration import config
from orchestration.config import Settings, XpcsDeployment
from orchestration.doctor.check import Check, Look, attempt, together
from orchestration.doctor.data import place_check
from orchestration.errors import NotSetUp
from orchestration.flows.aps8idi.checking import demand_account
from orchestration.globus.auth import TransferClients


def deployments_check(
    settings: Settings, *, sites: Mapping[str, Look], indexes: Mapping[str, Look], seconds: float
) -> Check:
    """`sites` and `indexes` look at those of the settings, by name; of what they find, the worst is said here."""
    looks = [
        (deployment.name, partial(_deployment, settings, deployment, sites, indexes, seconds))
        for deployment in settings.xpcs.deployments.values()
    ]
    default = settings.xpcs.default
    note = f"{default} is the default" if default is not None else ""
    return Check(what="XPCS", note=note, parts=together(looks, seconds=seconds))


def _deployment(
    settings: Settings,
    deployment: XpcsDeployment,
    sites: Mapping[str, Look],
    indexes: Mapping[str, Look],
    seconds: float,
) -> Check:
    looks = [*_data(settings, deployment), *_places(deployment, sites, indexes)]
    if deployment.service_account is not None:
        looks.append(("service account", partial(_client, settings, deployment.service_account)))
    return Check(what=deployment.name, parts=together(looks, seconds=seconds))


def _data(settings: Settings, deployment: XpcsDeployment) -> Iterator[tuple[str, Look]]:
    clients = TransferClients(config.credentials())
    named = {"source": deployment.source, "qmaps": deployment.qmaps, "results": deployment.results}
    for role, name in named.items():
        if name is not None:
            look = partial(place_check, clients, settings.endpoint(name))
            yield f"{role} {name}", partial(_in_short, f"{role} {name}", look)


def _places(
    deployment: XpcsDeployment, sites: Mapping[str, Look], indexes: Mapping[str, Look]
) -> Iterator[tuple[str, Look]]:
    yield f"site {deployment.site}", partial(_in_short, f"site {deployment.site}", sites[deployment.site])
    if deployment.plot_site is not None:
        what = f"plots at {deployment.plot_site}"
        yield what, partial(_in_short, what, sites[deployment.plot_site])
    if deployment.index is not None:
        yield f"index {deployment.index}", partial(_in_short, f"index {deployment.index}", indexes[deployment.index])


def _in_short(what: str, look: Look) -> Check:
    """The worst of what was found, without its parts: these are told elsewhere."""
    found = look()
    culprit = found.culprit
    if culprit is found:
        return Check(what=what, health=found.health, note=found.note, remedy=found.remedy)
    return Check(what=what, health=culprit.health, note=f"{culprit.what}: {culprit.note}", remedy=culprit.remedy)


def _client(settings: Settings, name: str) -> Check:
    def ask() -> str:
        app = settings.globus.globus_apps[name]
        if app.client_id is None or app.client_secret is None:
            raise NotSetUp(
                "its client_id or its client_secret is not set",
                where=f"globus.globus_apps.{name}",
                next_step="set the variables that it names, in the environment or in .env",
            )
        demand_account(settings, name)
        return f"{name}, client {app.client_id}"

    return attempt("service account", ask)
