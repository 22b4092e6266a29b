"""Search indexes in the settings file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestration import config
from orchestration.errors import ConfigError, UnknownName
from orchestration.globus.published_files import Shelf
from orchestration.paths import RelativePath
from orchestration.policy import Zone
from orchestration.sandbox import blueprint
from orchestration.sandbox import settings as sandbox_settings
from orchestration.sandbox.layout import Layout

FILE = """
globus:
  globus_endpoints:
    shelf:
      root_path: /published
      uuid: 11111111-2222-4333-8444-555555555555
    disk:
      mount: /tmp
search:
  indexes:
    xpcs:
      uuid: 6f831ac8-4c41-4812-b383-6fb04f8b9f9f
      visible_to: ["urn:globus:groups:id:9da26beb-33f5-4e1a-b9f6-a44a624c4ddd"]
      publisher: Advanced Light Source
      creators: [ALS beamline 7.0.1.2]
      endpoint: shelf
      https_host: https://g-1a2b3.data.globus.org:8443/
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yml"
    path.write_text(text)
    return path


def test_an_index_is_known_by_its_name(tmp_path: Path) -> None:
    settings = config.load(write(tmp_path, FILE))
    index = settings.search.index("xpcs")
    assert (index.name, index.creators, index.place.zone) == ("xpcs", ("ALS beamline 7.0.1.2",), Zone.EXTERNAL)
    assert index.endpoint is not None
    shelf = Shelf.of(index, settings.endpoint(index.endpoint))
    assert shelf.https_url(RelativePath("a b")) == "https://g-1a2b3.data.globus.org:8443/published/a%20b"
    with pytest.raises(UnknownName, match="did you mean `xpcs`"):
        settings.search.index("xpc")


def test_a_file_without_indexes_is_right_as_before(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, "ledger: {lease_seconds: 5}")).search.indexes == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("uuid: 6f83", "uuid: 6f8x", "search.indexes.xpcs.uuid"),
        ("9da26beb", "friends", "is nobody: write `public`"),
        ("visible_to: [", "visible_by: [", "did you mean `visible_to`"),
        ("publisher: Advanced Light Source", "publisher: ' '", "publisher"),
        ("creators: [ALS beamline 7.0.1.2]", "creators: []", "needs at least one entry"),
        ("endpoint: shelf", "endpoint: shelv", "did you mean `shelf`"),
        ("endpoint: shelf", "endpoint: disk", "not on a Globus collection"),
        ("endpoint: shelf", "", "add `endpoint`"),
        ("https://g-1a2b3.data.globus.org:8443/", "http://g-1a2b3.data.globus.org", "must be a host"),
        ("https://g-1a2b3.data.globus.org:8443/", "https://host/a/path", "must be a host"),
        ("https://g-1a2b3.data.globus.org:8443/", "host:port", "must be a host"),
        ("https://g-1a2b3.data.globus.org:8443/", "https://me:secret@host", "must be a host"),
    ],
)
def test_what_is_wrong_with_an_index_is_said_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(ConfigError, match=r"line \d+") as caught:
        config.load(write(tmp_path, FILE.replace(old, new)))
    assert said in str(caught.value)


def test_a_sandbox_has_the_indexes_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEAMLINE_CONFIG", raising=False)
    layout = Layout.at(tmp_path / "sandbox")
    layout.create()
    blueprint.write(layout, write(tmp_path, FILE))
    written = yaml.safe_load(layout.facility_file.read_text())
    assert written["search"]["indexes"] == [{"name": "xpcs", "id": "6f831ac8-4c41-4812-b383-6fb04f8b9f9f"}]
    (index,) = sandbox_settings.load(layout.facility_file, state=tmp_path).search.indexes
    assert index.identity == "6f831ac8-4c41-4812-b383-6fb04f8b9f9f"
    assert "search" in yaml.safe_load(layout.config_file.read_text())
