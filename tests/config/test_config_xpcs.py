"""Deployments of XPCS in the settings file, and what users call their data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration import config
from orchestration.config import XpcsDeployment
from orchestration.errors import ConfigError, InvalidPath, UnknownName
from orchestration.paths import RelativePath

Write = Callable[..., Path]

FILE = """
globus:
  globus_endpoints:
    store: {root_path: /8IDI, uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a1}
    store_results: {root_path: /8IDI_results, uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a1}
    library: {uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a2}
    staging: {uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a3}
    here: {mount: here}
    s: {uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a4}
  globus_apps:
    aps_service: {}
beamlines:
  b: {acquisition: store, server: store, raw: store, scratch: store_results, sites: []}
compute_sites:
  far: {kind: nersc, raw_endpoint: staging, scratch_endpoint: staging, job_folder: /j}
  near: {kind: local, raw_endpoint: here, scratch_endpoint: here}
search:
  indexes:
    xpcs: {uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a5, visible_to: [public], publisher: p, creators: [c], endpoint: s}
xpcs:
  default: far-away
  deployments:
    far-away:
      beamline: b
      source: store
      posix_root: /gdata/dm/8IDI/
      qmaps: library
      qmap_posix_root: /home/qmaps
      results: store_results
      site: far
      plot_site: far
      index: xpcs
      service_account: aps_service
      time_zone: America/Chicago
      cycle_pattern: '(20\\d\\d-[1-3])'
    close-by:
      {beamline: b, source: store, posix_root: /, site: near}
"""


@pytest.fixture
def deployment(write_config: Write) -> XpcsDeployment:
    return config.load(write_config(FILE)).xpcs.deployment()


def test_a_deployment_says_where_everything_is(write_config: Write) -> None:
    xpcs = config.load(write_config(FILE)).xpcs
    far, near = xpcs.deployment(), xpcs.deployment("close-by")
    assert (far.name, near.name) == ("far-away", "close-by")
    assert (far.qmap_endpoint, far.result_endpoint, far.plots_at) == ("library", "store_results", "far")
    assert (near.qmap_endpoint, near.result_endpoint, near.plots_at) == ("store", "store", "near")
    assert (xpcs.settle_seconds, near.index, near.time_zone) == (5.0, None, "America/Chicago")


def test_a_deployment_that_is_not_there_is_told_with_the_near_ones(write_config: Write) -> None:
    several = config.load(write_config(FILE.replace("  default: far-away\n", ""))).xpcs
    with pytest.raises(UnknownName, match=r"there is no XPCS deployment 'far-awy': did you mean `far-away`"):
        several.deployment("far-awy")
    with pytest.raises(UnknownName, match=r"`close-by`, `far-away`.*Next: name one of them"):
        several.deployment()
    text = "    close-by:\n      {beamline: b, source: store, posix_root: /, site: near}\n"
    only = config.load(write_config(FILE.replace(text, "").replace("  default: far-away\n", ""))).xpcs
    assert only.deployment().name == "far-away"
    with pytest.raises(UnknownName, match="there is no XPCS deployment"):
        config.load(write_config("")).xpcs.deployment()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "default: far-away",
            "default: far-way",
            21,
            "there is no XPCS deployment `far-way`: did you mean `far-away`?",
        ),
        ("beamline: b\n", "beamline: bb\n", 24, "there is no beamline `bb`: did you mean `b`?"),
        ("source: store\n", "source: stor\n", 25, "there is no endpoint `stor`: did you mean `store`"),
        ("posix_root: /gdata", "posix_root: gdata", 26, "must be an absolute path without `..`"),
        ("posix_root: /gdata", "posix_root: /a/../gdata", 26, "must be an absolute path without `..`"),
        ("qmaps: library", "qmaps: libary", 27, "there is no endpoint `libary`: did you mean `library`?"),
        ("      qmaps: library\n", "", 23, "has `qmap_posix_root` and no `qmaps`"),
        ("      qmap_posix_root: /home/qmaps\n", "", 23, "has `qmaps` and no `qmap_posix_root`"),
        ("qmap_posix_root: /home", "qmap_posix_root: ~", 28, "must be an absolute path"),
        ("results: store_results", "results: store_result", 29, "did you mean `store_results`"),
        ("      site: far\n", "      site: fur\n", 30, "there is no compute site `fur`: did you mean `far`?"),
        ("plot_site: far", "plot_site: fur", 31, "there is no compute site `fur`: did you mean `far`?"),
        ("index: xpcs", "index: xcps", 32, "there is no search index `xcps`: did you mean `xpcs`?"),
        (
            "_account: aps_service",
            "_account: aps_servic",
            33,
            "no Globus client `aps_servic`: did you mean `aps_service`?",
        ),
        ("America/Chicago", "America/Chicgo", 34, "there is no time zone `America/Chicgo`"),
        ("America/Chicago", "../etc/passwd", 34, "there is no time zone"),
        ("'(20", "'((20", 35, "is not a regular expression"),
        ("'(20\\d\\d-[1-3])'", "'20'", 35, "needs a group"),
        ("      site: far\n", "", 23, "`site` is missing"),
        ("index: xpcs", "indx: xpcs", 32, "unknown key `indx`, did you mean `index`?"),
    ],
)
def test_what_is_wrong_with_a_deployment_is_said_with_its_line(
    write_config: Write, old: str, new: str, line: int, said: str
) -> None:
    assert old in FILE
    _, problems = config.inspect(write_config(FILE.replace(old, new, 1)))
    assert [problem.line for problem in problems if said in problem.message] == [line], problems


def test_notes_say_where_nothing_moves_the_data(write_config: Write) -> None:
    settings = config.load(write_config(FILE))
    stuck = {note.partition(": give")[0] for note in config.notes(settings) if note.startswith("xpcs ")}
    assert stuck == {
        "xpcs close-by: nothing moves data from store to here",
        "xpcs close-by: nothing moves data from here to store",
    }
    apart = config.load(write_config(FILE.replace("plot_site: far", "plot_site: near")))
    stuck = {note.partition(": give")[0] for note in config.notes(apart) if note.startswith("xpcs far-away")}
    assert stuck == {
        "xpcs far-away: nothing moves data from staging to here",
        "xpcs far-away: nothing moves data from here to store_results",
    }
    unmade, _ = config.inspect(write_config(FILE.replace("uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a3", "uuid: TBD")))
    assert unmade is not None
    stuck = {note.partition(": give")[0] for note in config.notes(unmade) if note.startswith("xpcs far-away")}
    assert stuck == {
        "xpcs far-away: nothing moves data from store to staging",
        "xpcs far-away: nothing moves data from library to staging",
        "xpcs far-away: nothing moves data from staging to store_results",
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/gdata/dm/8IDI/2024-1/exp/data/A1/A1.h5", "2024-1/exp/data/A1/A1.h5"),
        ("//gdata/dm//8IDI/2024-1/", "2024-1"),
        ("2024-1/exp", "2024-1/exp"),
        ("/gdata/dm/8IDI/gdata/dm/8IDI/x", "gdata/dm/8IDI/x"),
        ("/gdata/dm/8IDI/a b/-rf $(x)'\".h5", "a b/-rf $(x)'\".h5"),
    ],
)
def test_what_users_call_a_path_leads_below_the_source_and_back(
    deployment: XpcsDeployment, path: str, expected: str
) -> None:
    relative = deployment.to_relative(path)
    assert relative == RelativePath(expected)
    assert deployment.to_posix(relative) == f"/gdata/dm/8IDI/{expected}"
    assert deployment.to_relative(deployment.to_posix(relative)) == relative


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/gdata/dm/8IDI",
        "/gdata/dm/8IDI/",
        "/gdata/dm/8IDI2/x",
        "/gdata/dm/x",
        "/etc/passwd",
        "/gdata/dm/8IDI/../7ID/x",
        "/gdata/dm/../dm/8IDI/x",
        "../8IDI/x",
        "2024-1/./x",
        "2024-1/a\nb",
        "2024-1/\0",
        "x" * 300,
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused_with_what_is_right(deployment: XpcsDeployment, path: str) -> None:
    with pytest.raises(InvalidPath, match=r"endpoint store.*Next: give a path such as /gdata/dm/8IDI/2024-1/"):
        deployment.to_relative(path)


def test_qmaps_have_a_root_of_their_own_or_that_of_the_data(write_config: Write, deployment: XpcsDeployment) -> None:
    qmap = deployment.qmap_to_relative("/home/qmaps/eiger/m.hdf")
    assert (qmap.text, deployment.qmap_to_posix(qmap)) == ("eiger/m.hdf", "/home/qmaps/eiger/m.hdf")
    with pytest.raises(InvalidPath, match="endpoint library"):
        deployment.qmap_to_relative("/gdata/dm/8IDI/m.hdf")
    near = config.load(write_config(FILE)).xpcs.deployment("close-by")
    assert near.qmap_to_posix(near.qmap_to_relative("/any/m.hdf")) == "/any/m.hdf"


@pytest.mark.parametrize(
    ("path", "cycle"),
    [("2024-1/exp/x.h5", "2024-1"), ("/gdata/dm/8IDI/2023-3", "2023-3"), ("exp12024-1/x", ""), ("2024-4/x", "")],
)
def test_the_cycle_is_read_from_the_path(write_config: Write, path: str, cycle: str) -> None:
    assert config.load(write_config(FILE)).xpcs.deployment("close-by").cycle(path) == cycle


def test_the_projects_own_deployments_are_right_and_never_delete_the_raw_data(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load(repository / "config.yml")
    assert settings.xpcs.deployment().name == "voyager-8idi-polaris"
    for deployment in settings.xpcs.deployments.values():
        source, results = settings.endpoint(deployment.source), settings.endpoint(deployment.result_endpoint)
        assert not source.shares_storage_with(results)
        assert settings.retention_rule(source.name, "raw") is settings.retention_rule(results.name, "raw") is None
        site = settings.site(deployment.site)
        assert settings.retention_rule(site.raw_endpoint, "raw") is not None
        assert settings.retention_rule(site.scratch_endpoint, "raw") is not None
    beamline = settings.beamline("aps8idi")
    assert beamline.relative("/gdata/dm/8IDI/2024-1/x.h5").text == "2024-1/x.h5"
    monkeypatch.setenv("BEAMLINE_XPCS_DEPLOYMENT", "aps8idi-local")
    assert config.load(repository / "config.yml").xpcs.deployment().site == "local_xpcs"
    monkeypatch.setenv("BEAMLINE_XPCS_DEPLOYMENT", "aps8idi-locl")
    with pytest.raises(ConfigError, match="did you mean `aps8idi-local`"):
        config.load(repository / "config.yml")
