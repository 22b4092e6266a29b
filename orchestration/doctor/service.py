"""This service itself: its settings, its ledger, and Prefect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect.exceptions import ObjectNotFound

from orchestration import config
from orchestration.config import Settings
from orchestration.doctor.check import Check, Health, attempt, refused
from orchestration.errors import OrchestrationError
from orchestration.flows import catalogue, variables
from orchestration.flows.runs import RunRequest
from orchestration.flows.server import api_url, prefect_server
from orchestration.flows.starting import unattended
from orchestration.ledger.health import examine


def settings_check(settings: Settings) -> Check:
    """The file is right, or there would be no settings; what may stop a flow on this machine is a note."""
    path = config.locate()
    notes = tuple(
        Check(what=note.partition(": ")[0], health=Health.DOUBTFUL, note=note.partition(": ")[2])
        for note in config.notes(settings)
    )
    found = config.environment_file()
    return Check(what="settings", note=f"{path}, environment file {found or 'none'}", parts=notes)


def ledger_check(settings: Settings) -> Check:
    try:
        found = examine(settings.ledger.url)
    except OrchestrationError as error:
        return refused("ledger", error)
    if found.schema is None:
        return Check(
            what="ledger", health=Health.UNUSED, note=f"{found.url} is empty", remedy="nothing: the first run fills it"
        )
    if found.schema != found.needed:
        return Check(
            what="ledger",
            health=Health.BROKEN,
            note=f"{found.url} has schema {found.schema}, and this version needs {found.needed}",
            remedy="run `beamline ledger migrate`",
        )
    parts = [
        *(
            Check(what="rows", health=Health.BROKEN, note=text, remedy="keep the file, and report it")
            for text in found.problems
        ),
        *_runs(found.dead_runs, found.unattended),
    ]
    watching = "no watcher: runs wait with a process each" if not found.watchers else f"{found.watchers} watching"
    note = f"{found.url}, {found.open_operations} operations open, {watching}"
    return Check(what="ledger", note=note, parts=tuple(parts))


def _runs(dead: tuple[str, ...], unattended_operations: tuple[str, ...]) -> Iterator[Check]:
    if dead:
        yield Check(
            what="runs",
            health=Health.DOUBTFUL,
            note=f"{len(dead)} ended without a word, such as {dead[0]}",
            remedy="run `beamline reconcile`, or wait for the next scheduled one",
        )
    if unattended_operations:
        yield Check(
            what="operations",
            health=Health.DOUBTFUL,
            note=f"{len(unattended_operations)} open ones are held by no run, such as {unattended_operations[0]}",
            remedy="start the flow of their scan again: it carries on; `beamline cancel` ends them",
        )


def prefect_check(settings: Settings, beamlines: tuple[str, ...]) -> Check:
    def ask() -> str:
        with prefect_server() as client:
            client.request("GET", "/health")
            return f"{api_url()}, version {client.api_version()}"

    server = attempt("server", ask)
    if server.health is not Health.WORKS:
        return Check(what="Prefect", parts=(server,))
    specs = [spec for beamline in beamlines for spec in catalogue.of_beamline(beamline).deployments]
    found = [_deployment(spec.full_name) for spec in specs]
    wrong = [each for each in found if each.health is not Health.WORKS]
    working = Check(what="deployments", note=f"{len(found) - len(wrong)} of {len(found)} are there, with a worker")
    return Check(what="Prefect", parts=(server, working, *_grouped(wrong), _variables(settings)))


def _variables(settings: Settings) -> Check:
    """A wrong one stops every run that reads it, and every deletion of which it says the time."""
    wrong, found = list[Check](), 0
    for name in settings.prefect.variables.documents():
        try:
            found += variables.is_set(settings, name)
        except OrchestrationError as error:
            wrong.append(refused(name, error))
    right = f"{found} are set" if found else "none is set: the values of config.yml hold"
    return Check(what="variables", note=right if not wrong else "", parts=tuple(wrong))


def _grouped(checks: Sequence[Check]) -> Iterator[Check]:
    """One for each thing that is wrong, however many deployments have it."""
    alike: dict[tuple[Health, str, str], list[str]] = {}
    for each in checks:
        alike.setdefault((each.health, each.note, each.remedy), []).append(each.what)
    for (health, note, remedy), names in alike.items():
        yield Check(what=", ".join(names), health=health, note=note, remedy=remedy)


def _deployment(name: str) -> Check:
    try:
        with prefect_server() as client:
            client.read_deployment_by_name(name)
    except ObjectNotFound:
        return Check(what=name, health=Health.BROKEN, note="not deployed", remedy="run `./create_deployments.sh`")
    except OrchestrationError as error:
        return refused(name, error)
    missing = unattended(RunRequest(deployment=name))
    if not missing:
        return Check(what=name, note="deployed, and a worker is there")
    what, _, remedy = missing.partition(". ")
    return Check(what=name, health=Health.DOUBTFUL, note=what, remedy=remedy or "start a worker")
