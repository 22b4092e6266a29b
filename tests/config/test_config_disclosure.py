"""Embargo and owners in the settings file: what they demand of a beamline, and what in them could never be kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration import config
from orchestration.policy import BeamlineRules, Effect

Write = Callable[..., Path]

GROUP = "urn:globus:groups:id:6c2a3b0e-1d4f-11ee-9a77-0f1e2d3c4b5a"
FILE = f"""
globus:
  globus_endpoints:
    store: {{mount: here, owner_folder: 'raw/{{proposal}}_*'}}
beamlines:
  b:
    acquisition: store
    server: store
    raw: store
    scratch: store
    sites: []
    catalogue: {{owner_group: staff, access_groups: [staff]}}
    disclosure:
      embargo_days: 365
      owners:
        groups: ['{{proposal}}', staff]
        visible_to: [{GROUP}]
        proposals:
          ALS-1: {{groups: [gels], visible_to: [public]}}
  open: {{acquisition: store, server: store, raw: store, scratch: store, sites: []}}
compute_sites:
  here: {{kind: local, raw_endpoint: store, scratch_endpoint: store}}
search:
  indexes:
    i: {{uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a5, visible_to: [{GROUP}], publisher: p, creators: [c]}}
xpcs:
  deployments:
    d: {{beamline: b, source: store, posix_root: /, site: here, index: i}}
"""


def test_what_a_beamline_demands(write_config: Write) -> None:
    rules = config.load(write_config(FILE)).rules
    found = rules["b"]
    assert found.embargo_days == 365
    assert found.folder is not None
    assert found.folder.owner("raw/ALS-1_smith/a.h5") == "ALS-1"
    assert found.owners is not None
    assert found.owners.readers(Effect.CATALOGUE, "ALS-1") == {"ALS-1", "staff", "gels"}
    assert found.owners.readers(Effect.CATALOGUE, "ALS-2") == {"ALS-2", "staff"}
    assert found.owners.readers(Effect.CATALOGUE, None) == {"staff"}
    assert found.owners.readers(Effect.PUBLISH, "ALS-1") == {GROUP, "public"}
    assert found.owners.readers(Effect.PUBLISH, "ALS-2") == {GROUP}
    assert rules["open"] == BeamlineRules(folder=found.folder, keeps=frozenset({"store"}))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("embargo_days: 365", "embargo_days: 0", "beamlines.b.disclosure.embargo_days"),
        ("embargo_days: 365", "embargo_dys: 365", "did you mean `embargo_days`?"),
        ("visible_to: [public]", "visible_to: [gels]", "`gels` is nobody"),
        ("groups: ['{proposal}', staff]", "groups: ['{proposal}']", "`staff`, which `catalogue` names, is not among"),
        (f"visible_to: [{GROUP}], publisher", "visible_to: [public], publisher", "`public`, to whom index `i`"),
        ("raw/{proposal}_*", "raw", "must end with a name with {proposal} in it"),
        ("raw/{proposal}_*", "../{proposal}", "must not have `.` or `..`"),
    ],
)
def test_what_is_wrong_is_said(write_config: Write, old: str, new: str, said: str) -> None:
    assert old in FILE
    _, problems = config.inspect(write_config(FILE.replace(old, new, 1)))
    assert any(said in str(problem) for problem in problems), problems


def test_proposals_that_are_known_by_folders_need_such_folders(write_config: Write) -> None:
    by_folder = FILE.replace("      embargo_days: 365\n", "      embargo_days: 365\n      proposal_from: folder\n")
    found = config.load(write_config(by_folder))
    assert found.rules["b"].by_folder
    assert found.proposal("b", "raw/ALS-1_smith/a.h5", {"proposal": "17"}) == "ALS-1"
    assert found.proposal("open", "raw/ALS-1_smith/a.h5", {"proposal": "17"}) == "17"
    without = by_folder.replace(", owner_folder: 'raw/{proposal}_*'", "")
    _, problems = config.inspect(write_config(without))
    (problem,) = problems
    assert problem.message == "no folder tells it: set `owner_folder` of the endpoint `store`"
