"""The how-to for a new beamline, followed word by word."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from prefect import Flow

from orchestration.flows import catalogue
from orchestration.flows.deployments import load_flow

PAGE = (Path(__file__).parents[2] / "docs/how-to/add-a-beamline.md").read_text(encoding="utf-8")


def block(language: str, beginning: str) -> str:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for text in found if text.startswith(beginning))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package of the page, where Python finds it."""
    folder = tmp_path / "bl733"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "move.py").write_text(block("python", '"""A new file'))
    (folder / "prefect.yaml").write_text(block("yaml", "name: bl733"))
    module = ModuleType("orchestration.flows.bl733")
    module.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "orchestration.flows.bl733", module)
    monkeypatch.delitem(sys.modules, "orchestration.flows.bl733.move", raising=False)
    return folder


def test_the_deployments_of_the_page_lead_to_its_flows(package: Path) -> None:
    deployments = catalogue.load(package / "prefect.yaml").deployments
    flows = [load_flow(spec) for spec in deployments]
    assert all(isinstance(flow, Flow) for flow in flows)
    assert [flow.name for flow in flows] == ["new_733_file_flow", "prune_data733"]
