"""Whatever is in the file: settings, or one readable error."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration import config
from orchestration.errors import ConfigError

QUIET = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

KEYS = st.sampled_from(
    [
        *config.Settings.model_fields,
        *config.Endpoint.model_fields,
        *config.Beamline.model_fields,
        *config.LocalSite.model_fields,
        *config.RetentionRule.model_fields,
        *config.DatasetRule.model_fields,
        "globus_endpoints",
        "any_of",
        "decision-settings",
        "variables",
    ]
) | st.text("ab_-. $\n", max_size=6)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["${HOME}", "${NOPE_X}", "${", "TBD", "local", "beamline", "/a", "~", "sqlite:///~/x", "32GiB"])
    | st.text(max_size=10)
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5))


@QUIET
@given(tree=st.dictionaries(KEYS, TREES, max_size=5))
def test_any_tree_gives_settings_or_one_error_with_lines(tree: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(json.dumps(tree, indent=1))
    found, problems = config.inspect(path)
    assert found is not None or problems
    lines = len(path.read_text().splitlines())
    assert all(1 <= problem.line <= lines and problem.message for problem in problems)


@QUIET
@given(content=st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`,? \t\n$~0.<"), max_size=60) | st.binary(max_size=60))
def test_any_text_gives_settings_or_one_error(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found, problems = config.inspect(path)
    if problems:
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            config.load(path)
    else:
        assert config.load(path) == found
