"""What there is of a proposal, and what of it is still to be archived; the plans are left for the jobs that store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestration.hpss import files, tools
from orchestration.hpss.bundles import BEGUN_SUFFIX, MANIFEST_SUFFIX, Archived, Cycle, Limits, Plan, digest, plan
from orchestration.hpss.manifest import Manifest
from orchestration.hpss.names import encoded, printable

_SHOWN = 50


def survey(
    *, source: str, project: str, archive: str, work: Path, limits: Limits, cycle: Cycle | None = None
) -> dict[str, Any]:
    """The document that says what is to be stored; each plan is a file in `work`, named by its digest."""
    found, others = files.found(source, project)
    if [each.name for each in found] == [project]:
        limits = replace(limits, member=-1)  # a file that is asked for by its name is stored by itself
    top = project.partition("/")[0]
    archived = known(archive, top, work)
    planned = plan(top, found, archived=archived, limits=limits, cycle=cycle)
    objects = []
    for each in planned.objects:
        document = each.document(source=source, archive=archive)
        name = digest(document)
        files.write_json(work / f"{name}.plan.json", document)
        objects.append(
            {"kind": each.kind, "object": each.object, "plan": name, "files": len(each.members), "size": each.size}
        )
    return {"version": 1, "project": project, "objects": objects, **_besides(planned, others)}


def known(archive: str, project: str, work: Path) -> Archived:
    """What the archive has of a proposal, by the lists that it keeps itself."""
    paths = tools.listing(f"{archive}/{encoded(project)}")
    names = {path.removeprefix(f"{archive}/") for path in paths}
    begun = {name.removesuffix(BEGUN_SUFFIX) for name in names if name.endswith(BEGUN_SUFFIX)}
    members = set()
    for name in sorted(names):
        whole = name.removesuffix(MANIFEST_SUFFIX)
        if whole == name or whole not in names:
            continue
        begun.discard(whole)  # all but the mark of its beginning was done
        members |= {each.member for each in fetched(archive, whole, work).members}
    return Archived(frozenset(names), frozenset(members), frozenset(begun))


def fetched(archive: str, name: str, work: Path) -> Manifest:
    """The list of an object that is whole."""
    path, local = f"{archive}/{name}{MANIFEST_SUFFIX}", work / "fetched.json"
    work.mkdir(parents=True, exist_ok=True)
    local.unlink(missing_ok=True)
    tools.get(path, local)
    try:
        return Manifest.read(local, where=path)
    finally:
        local.unlink()


def _besides(planned: Plan, others: list[str]) -> dict[str, Any]:
    """Counts, and the first of each."""
    refused = [[printable(name), why] for name, why in sorted(planned.refused.items())]
    return {
        "known": len(planned.known),
        "refused": refused[:_SHOWN],
        "refused_count": len(refused),
        "others": [printable(name) for name in others[:_SHOWN]],
        "others_count": len(others),
    }
