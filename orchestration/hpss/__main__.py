"""``python -m orchestration.hpss survey|store|fetch|verify|remove|look``: one job, or one look, each."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestration.hpss import files, reading, tools
from orchestration.hpss.bundles import BEGUN_SUFFIX, BUNDLE, INDEX_SUFFIX, Cycle, Limits
from orchestration.hpss.errors import HpssError, Misused, ObjectMissing, account
from orchestration.hpss.fetch import fetch
from orchestration.hpss.manifest import beside, compressed
from orchestration.hpss.names import printable
from orchestration.hpss.store import load, store
from orchestration.hpss.survey import fetched, survey

OUTCOME, LIST = "outcome.json", "manifest.json.gz"


def main(words: Sequence[str]) -> int:
    asked = _parser().parse_args(words)
    asked.work.mkdir(parents=True, exist_ok=True)
    began = time.time()
    try:
        outcome = asked.do(asked)
    except HpssError as error:
        account(error)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    except OSError as error:
        refusal = Misused(
            f"{error.strerror or error}", where=str(error.filename or ""), next_step="mend that, and retry"
        )
        account(refusal)
        sys.stderr.write(f"{type(error).__name__}: {refusal}\n")
        return 1
    outcome |= {"seconds": round(time.time() - began, 3), "at": began}
    if asked.do is _look:
        sys.stdout.write(json.dumps(outcome) + "\n")
    else:
        files.write_json(asked.out / OUTCOME, outcome)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestration.hpss")
    commands = parser.add_subparsers(required=True)
    for name, do in (("survey", _survey), ("store", _store), ("fetch", _fetch), ("verify", _verify)):
        _command(commands, name, do)
    for name, do in (("remove", _remove), ("look", _look)):
        _command(commands, name, do)
    return parser


def _command(commands: Any, name: str, do: Any) -> None:
    command = commands.add_parser(name)
    command.set_defaults(do=do)
    command.add_argument("--work", type=Path, required=True)
    command.add_argument("--out", type=Path, default=Path())
    command.add_argument("--archive", default="")
    command.add_argument("--object", default="")
    command.add_argument("--member", action="append", default=[])
    if name == "survey":
        command.add_argument("--source", required=True)
        command.add_argument("--project", required=True)
        command.add_argument("--cycle", type=Cycle.parse)
        for limit in ("bundle", "member", "members"):
            command.add_argument(f"--limit-{limit}", type=int, default=getattr(Limits(), limit))
    if name == "store":
        command.add_argument("--plan", required=True)
    if name == "fetch":
        command.add_argument("--destination", required=True)


def _survey(asked: argparse.Namespace) -> dict[str, Any]:
    limits = Limits(asked.limit_bundle, asked.limit_member, asked.limit_members)
    return survey(
        source=_above(asked.source, asked.project),
        project=asked.project,
        archive=asked.archive,
        work=asked.work,
        limits=limits,
        cycle=asked.cycle,
    )


def _above(path: str, name: str) -> str:
    """Where `name` is, of the whole path of it: whoever submits a job is asked about each path that it is told."""
    above = path.removesuffix(f"/{name}")
    if above == path:
        raise Misused(f"{path} is no path of {name}", where=path)
    return above or "/"


def _store(asked: argparse.Namespace) -> dict[str, Any]:
    work = asked.work / asked.plan[:32]
    work.mkdir(exist_ok=True)
    manifest, already = store(load(asked.work, asked.plan), work=work)
    files.write(asked.out / LIST, compressed(manifest))
    return {
        "object": manifest.path,
        "kind": manifest.kind,
        "size": manifest.size,
        "files": len(manifest.members),
        "already": already,
        "digest": manifest.document()["digest"],
    }


def _fetch(asked: argparse.Namespace) -> dict[str, Any]:
    manifest = fetched(asked.archive, asked.object, asked.work)
    chosen = manifest.chosen(asked.member)
    destination = _above(asked.destination, printable(chosen[0].name).partition("/")[0])
    new = fetch(asked.archive, manifest, chosen, destination=destination, token=asked.work.name)
    return {"object": manifest.path, "files": len(chosen), "new": len(new), "digest": manifest.document()["digest"]}


def _verify(asked: argparse.Namespace) -> dict[str, Any]:
    """All of the object, or, where members are named, those."""
    manifest = fetched(asked.archive, asked.object, asked.work)
    chosen = manifest.chosen(asked.member)
    if asked.member:
        reading.verify_members(asked.archive, manifest, chosen, work=asked.work)
    else:
        reading.verify(asked.archive, manifest)
    return {"object": manifest.path, "files": len(chosen), "digest": manifest.document()["digest"]}


def _remove(asked: argparse.Namespace) -> dict[str, Any]:
    """The list last: what is left of an interrupted removal is still known as ours."""
    path = f"{asked.archive}/{asked.object}"
    there = tools.stats(path, beside(path), path + BEGUN_SUFFIX)
    if there[path] is None and there[beside(path)] is None:
        return {"object": asked.object, "removed": False}
    if there[beside(path)] is None and there[path + BEGUN_SUFFIX] is None:
        raise ObjectMissing("it has no list beside it, so that it was not put there by this program", where=path)
    tools.remove(path + INDEX_SUFFIX, path, path + BEGUN_SUFFIX, beside(path))
    return {"object": asked.object, "removed": True}


def _look(asked: argparse.Namespace) -> dict[str, Any]:
    """What stands there now: its time, and the sizes of its members that are named, or are below them; or of all."""
    path = f"{asked.archive}/{asked.object}"
    index = path + INDEX_SUFFIX
    there = tools.stats(path, beside(path), index)
    known = there[path]
    if known is None or there[beside(path)] is None:
        return {"object": asked.object, "there": False}
    with tempfile.TemporaryDirectory(dir=asked.work) as work:  # several may look at once
        manifest = fetched(asked.archive, asked.object, Path(work))
    whole = known.size == manifest.size and (manifest.kind != BUNDLE or there[index] is not None)
    sizes = {printable(each.name): each.member.size for each in manifest.members}
    if manifest.kind != BUNDLE:
        sizes = {"": known.size}
    wanted = [(name, f"{name}/") for name in asked.member]
    members = {
        name: size
        for name, size in sizes.items()
        if not wanted or any(name == each or name.startswith(below) for each, below in wanted)
    }
    return {"object": asked.object, "there": True, "whole": whole, "modified": known.modified, "members": members}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
