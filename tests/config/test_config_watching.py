"""Settings of watching that cannot be meant are errors with the key and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration import config
from orchestration.errors import ConfigError

ENDPOINTS = {name: {"root_path": f"/{name}", "mount": f"/mnt/{name}"} for name in ("a", "b")}
RULE = {"after_days": 1, "requires": {"any_of": ["b"]}}
NOTIFY = {"smtp_host": "smtp.example.org", "sender": "b@example.org", "operators": ["o@example.org"]}


def load(write_config: Callable[[str], Path], **sections: Any) -> config.Settings:
    document = {"globus": {"globus_endpoints": ENDPOINTS}, **sections}
    return config.load(write_config(yaml.safe_dump(document)))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"retention": {"a": {**RULE, "warn_days": 3}}}, "nobody could be warned: set `notify.smtp_host`"),
        ({"retention": {"a": {**RULE, "datasets": {"raw": {"warn_days": 3}}}}}, "nobody could be warned"),
        ({"notify": NOTIFY, "retention": {"a": {**RULE, "warn_days": 0.5}}}, "warn_days"),
        ({"notify": {"smtp_host": "smtp.example.org"}}, "needs a `sender` and at least one of `operators`"),
        ({"notify": {**NOTIFY, "operators": ["nobody"]}}, "`nobody` is no mail address"),
        ({"notify": {**NOTIFY, "owners": {"p": []}}}, "`p` has no address"),
        ({"notify": {**NOTIFY, "beamlines": {"bl833": ["o@example.org"]}}}, "there is no beamline `bl833`"),
        ({"globus": {"globus_endpoints": {"a": {"mount": "/mnt", "keep_free": "110%"}}}}, "between `0%` and `100%`"),
        ({"globus": {"globus_endpoints": {"a": {"mount": "/mnt", "keep_free": "much"}}}}, "keep_free"),
        (
            {
                "compute_sites": {
                    "n": {
                        "kind": "nersc",
                        "raw_endpoint": "a",
                        "scratch_endpoint": "a",
                        "job_folder": "/jobs",
                        "reads": ["c"],
                    }
                }
            },
            "there is no endpoint `c`",
        ),
    ],
)
def test_what_cannot_work_is_refused(write_config: Callable[[str], Path], sections: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        load(write_config, **sections)


@pytest.mark.parametrize(("given", "of_a_terabyte"), [("10%", 10**11), ("2GB", 2 * 10**9), (5000, 5000)])
def test_free_space_is_a_share_or_a_size(
    write_config: Callable[[str], Path], given: str | int, of_a_terabyte: int
) -> None:
    endpoints = {"a": {"mount": "/mnt/a", "keep_free": given}}
    settings = load(write_config, globus={"globus_endpoints": endpoints})
    assert settings.endpoint("a").free_wanted(10**12) == of_a_terabyte


def test_the_password_is_no_setting(write_config: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="unknown key `password`"):
        load(write_config, notify={**NOTIFY, "password": "secret"})
