from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from orchestration.errors import CatalogueRefused, ConfigError, ServiceUnavailable
from orchestration.scicat import errors
from orchestration.scicat.auth import expiry_of


def answer(status: int, body: object = None, **headers: str) -> httpx.Response:
    request = httpx.Request("POST", "https://user@scicat.example/api/v3/datasets?filter=x")
    content = b"<html>bad gateway</html>" if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, content=content, headers=named, request=request)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(status: int) -> None:
    error = errors.explain(answer(status, retry_after="7"), "create a record")
    assert isinstance(error, ServiceUnavailable)
    assert error.retry_after == 7


def test_a_time_to_come_back_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert errors.retry_after(answer(503, retry_after=later)) == pytest.approx(90, abs=5)
    assert errors.retry_after(answer(503, retry_after="soon")) is None
    assert errors.retry_after(answer(503)) is None


def test_a_refusal_names_each_property_although_the_server_packs_json_in_json() -> None:
    inner = json.dumps(
        [
            {"property": "ownerGroup", "constraints": {"isString": "ownerGroup must be a string"}},
            {"property": "files", "children": [{"property": "size", "constraints": {"isInt": "must be whole"}}]},
        ]
    )
    error = errors.explain(answer(400, {"status": 400, "message": inner}), "create a record")
    assert isinstance(error, CatalogueRefused)
    assert "ownerGroup must be a string; size: must be whole" in error.what


def test_a_refusal_with_a_plain_list_of_messages_is_read_too() -> None:
    body = {"message": ["property foo should not exist"], "error": "Bad Request", "statusCode": 400}
    assert "property foo should not exist" in str(errors.explain(answer(400, body), "create a record"))


def test_a_page_of_a_gateway_is_not_quoted() -> None:
    assert "html" not in str(errors.explain(answer(400), "create a record"))


def test_the_place_has_neither_query_nor_user() -> None:
    assert errors.explain(answer(403, {}), "create a record").where == "POST https://scicat.example/api/v3/datasets"


def test_an_address_that_redirects_is_a_setting_to_mend() -> None:
    error = errors.explain(answer(301, {}, location="https://new.example/"), "create a record")
    assert isinstance(error, ConfigError)
    assert "https://new.example/" in error.what


@pytest.mark.parametrize("token", ["", "abc", "a.b.c", "a." + base64.urlsafe_b64encode(b"[]").decode() + ".c"])
def test_a_token_that_is_no_web_token_has_no_known_expiry(token: str) -> None:
    assert expiry_of(token) is None


def test_the_expiry_of_a_web_token_is_read() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1234}).encode()).decode().rstrip("=")
    assert expiry_of(f"header.{claims}.signature") == 1234
