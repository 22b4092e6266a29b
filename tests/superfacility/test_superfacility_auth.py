"""Who a client is, is proved by a signed assertion; what it may do, by a token that ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from superfacility_lab import Lab, OAuthError, asked, claims, signed

from orchestration.sandbox.superfacility.clients import new_key, private_pem, public_jwk
from orchestration.sandbox.superfacility.credentials import NERSC_CLIENT_ID


@pytest.fixture(scope="session")
def stranger() -> RSAKey:
    return new_key()


def test_a_signed_assertion_buys_a_token(lab: Lab) -> None:
    answer = asked(lab, signed(lab))
    body = answer.json()
    assert (answer.status_code, body["token_type"], body["expires_in"]) == (200, "Bearer", 600)
    with lab.new_client(client_id=None, secret=None, access_token=body["access_token"]) as client:
        assert client.user().name == "alsdev"


@pytest.mark.parametrize("form", ["pem", "jwk", "file"])
def test_the_key_may_be_given_in_any_form_that_the_client_reads(lab: Lab, tmp_path: Path, form: str) -> None:
    key = RSAKey.import_key(lab.key)
    match form:
        case "pem":
            words: dict[str, Any] = {"secret": lab.key}
        case "jwk":
            words = {"secret": key.as_dict(private=True)}
        case _:
            file = tmp_path / "key.pem"
            file.write_text(f"{NERSC_CLIENT_ID}\n{lab.key}")
            file.chmod(0o600)
            words = {"client_id": None, "secret": None, "key": str(file)}
    with lab.new_client(**words) as client:
        assert client.user().name == "alsdev"


REFUSED: dict[str, Callable[[Lab], str]] = {
    "unknown client": lambda lab: signed(lab, iss="zzzzzzzzzzzzz", sub="zzzzzzzzzzzzz"),
    "invalid_claim": lambda lab: signed(lab, aud="https://oidc.nersc.gov/c2id/token"),
    "Invalid claim: 'iss'": lambda lab: signed(lab, iss="somebodyelse1"),
    "expired": lambda lab: signed(lab, exp=int(time.time()) - 10),
    "jti": lambda lab: signed(lab, jti=None),
    "'exp'": lambda lab: signed(lab, exp=None),
    "not a client assertion": lambda lab: "abc",
    "alg": lambda lab: jwt.encode({"alg": "HS256"}, claims(lab), OctKey.generate_key(256), algorithms=["HS256"]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_an_assertion_that_proves_nothing_is_refused(lab: Lab, why: str) -> None:
    answer = asked(lab, REFUSED[why](lab))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_the_wrong_key_is_refused(lab: Lab, stranger: RSAKey) -> None:
    with lab.new_client(secret=private_pem(stranger)) as client, pytest.raises(OAuthError, match="bad_signature"):
        client.user()


def test_an_assertion_counts_once(lab: Lab) -> None:
    text = signed(lab)
    assert asked(lab, text).status_code == 200
    assert "replayed jti" in asked(lab, text).text


def test_an_expired_client_gets_no_token_and_one_registered_anew_does(lab: Lab, stranger: RSAKey) -> None:
    lab.control.expire_client(NERSC_CLIENT_ID)
    with lab.new_client() as client, pytest.raises(OAuthError, match="client expired"):
        client.user()
    lab.control.register("abcdefghijklm", public_jwk(stranger), expires=time.time() + 3600)
    with lab.new_client(client_id="abcdefghijklm", secret=private_pem(stranger)) as client:
        assert client.user().name == "alsdev"
        assert cast(str, client.user().clients()[-1].expiresAt) < "2099"


def test_other_grants_and_missing_proof_are_refused(lab: Lab) -> None:
    assert asked(lab, "", grant_type="password").json() == {"error": "unsupported_grant_type"}
    assert asked(lab, signed(lab), client_assertion_type="").status_code == 401


def test_a_revoked_token_breaks_the_client_that_holds_it_and_no_other(lab: Lab) -> None:
    with lab.new_client() as holder:
        holder.user()
        assert lab.control.revoke_tokens() == 2
        for _ in range(2):  # neither asked again nor renewed by the client
            with pytest.raises(httpx.HTTPStatusError, match="401"):
                holder.user()
    with lab.new_client() as client:
        assert client.user().name == "alsdev"


def test_a_token_ends(lab: Lab) -> None:
    lab.control.turn(token_lifetime=0)
    token = asked(lab, signed(lab)).json()["access_token"]
    with (
        lab.new_client(client_id=None, secret=None, access_token=token) as client,
        pytest.raises(httpx.HTTPStatusError, match="401"),
    ):
        client.user()


def test_a_token_of_a_minute_is_fetched_again_for_every_request(lab: Lab) -> None:
    lab.control.turn(token_lifetime=60)
    lab.control.revoke_tokens()
    with lab.new_client() as client:
        for _ in range(3):
            client.get("account/")
    assert lab.control.revoke_tokens() >= 3


def test_expiring_the_tokens_of_all_services_expires_these(lab: Lab) -> None:
    lab.client.user()
    assert lab.facility.client.expire_tokens() == 1


@pytest.mark.parametrize(("header", "status"), [({}, 403), ({"Authorization": "Bearer nobody"}, 401)])
def test_without_a_good_token_nothing_private_is_told(lab: Lab, header: dict[str, str], status: int) -> None:
    url = lab.variables["SFAPI_API_URL"]
    paths = ["account/", "account/projects", "tasks/1", "compute/jobs/perlmutter", "utilities/ls/perlmutter/tmp"]
    assert {httpx.get(f"{url}/{path}", headers=header, verify=False).status_code for path in paths} == {status}
    assert httpx.get(f"{url}/status/perlmutter", headers=header, verify=False).status_code == 200


def test_a_token_endpoint_that_is_busy_is_asked_again(lab: Lab) -> None:
    lab.facility.client.faults.add("POST .*/c2id/token", status=503)
    with lab.new_client() as client:
        assert client.user().name == "alsdev"
