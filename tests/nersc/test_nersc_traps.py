"""What the client library does, or does no more, that somebody fell into; each with what this service does instead."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from nersc_ground import Ground

from orchestration.errors import ConfigError, ServiceUnavailable
from orchestration.nersc.client import _once_client
from orchestration.nersc.errors import translate


def test_the_machine_is_asked_for_by_its_name(ground: Ground) -> None:
    """The library's client had an attribute for each machine; released, it has none."""
    assert not hasattr(_once_client(), "perlmutter")
    jobs = ground.jobs()
    assert jobs.mine() == []
    other = replace(jobs, site=ground.site.model_copy(update={"machine": "cori"}))
    with pytest.raises(ConfigError, match="check machine"):
        other.mine()


def test_the_words_of_a_command_arrive_as_they_are(ground: Ground) -> None:
    """The library joins them with spaces."""
    calls = ground.jobs()._calls
    words = ["two words", "it's", "$(id)", "*", "-n", "a\nb", 'say "x"']
    task = calls.finished(calls.run(["printf", "<%s>", *words]), within=60.0)
    assert task is not None
    assert task.result["output"] == "".join(f"<{word}>" for word in words)


@pytest.mark.parametrize("seconds", [7.0, 1.5])
def test_when_to_ask_again_is_told_in_seconds(seconds: float) -> None:
    found = translate(unavailable(f"{seconds:g}"), where="here")
    assert isinstance(found, ServiceUnavailable)
    assert found.retry_after == seconds


def test_when_to_ask_again_is_told_by_a_date() -> None:
    found = translate(unavailable(format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)), where="here")
    assert isinstance(found, ServiceUnavailable)
    assert found.retry_after is not None
    assert 3600.0 <= found.retry_after <= 7200.0


@pytest.mark.parametrize("header", ["", "0", "-5", "soon", "inf", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_what_tells_no_time_to_come_tells_none(header: str) -> None:
    found = translate(unavailable(header), where="here")
    assert isinstance(found, ServiceUnavailable)
    assert found.retry_after is None


def unavailable(retry_after: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "https://api.nersc.gov/")
    response = httpx.Response(503, headers={"Retry-After": retry_after}, request=request)
    return httpx.HTTPStatusError("503", request=request, response=response)
