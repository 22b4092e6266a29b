"""The files with the identifier and the key, as people have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, RSAKey

from orchestration.config import Credentials
from orchestration.errors import ConfigError
from orchestration.nersc.auth import read_client_key

PAIR = RSAKey.generate_key(2048)
PRIVATE = PAIR.as_dict(private=True)
PEM = PAIR.as_pem(private=True).decode()


def credentials(tmp_path: Path, key: str, *, identifier: str = "abcdefghijklm\n", mode: int = 0o600) -> Credentials:
    id_path, key_path = tmp_path / "client_id.txt", tmp_path / "key"
    id_path.write_text(identifier)
    key_path.write_text(key)
    key_path.chmod(mode)
    return Credentials(path_nersc_client_id=id_path, path_nersc_pri_key=key_path)


@pytest.mark.parametrize(
    "key",
    [
        PEM,
        f"abcdefghijklm\n{PEM}",
        json.dumps(PRIVATE),
        json.dumps({"client_id": "abcdefghijklm", "secret": PRIVATE}),
        json.dumps({"client_id": "abcdefghijklm", "secret": json.dumps(PRIVATE)}),
    ],
    ids=["pem", "pem after the identifier", "jwk", "json of the client library", "jwk in json as text"],
)
def test_a_key_is_read_in_every_form_that_nersc_gives(tmp_path: Path, key: str) -> None:
    found = read_client_key(credentials(tmp_path, key))
    assert found.client_id == "abcdefghijklm"
    assert found.secret.as_dict(private=True)["d"] == PRIVATE["d"]


def test_the_line_end_after_an_identifier_is_no_part_of_it(tmp_path: Path) -> None:
    assert read_client_key(credentials(tmp_path, PEM, identifier="  abcdefghijklm \n\n")).client_id == "abcdefghijklm"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "neither PEM nor JSON"),
        ("not a key", "neither PEM nor JSON"),
        ("[1, 2]", "not an object"),
        ("{}", "cannot be read as an RSA key"),
        (json.dumps(PAIR.as_dict(private=False)), "only the public half"),
        (json.dumps(ECKey.generate_key("P-256").as_dict(private=True)), "cannot be read as an RSA key"),
        (PEM.replace("MII", "AAA", 1), "cannot be read as an RSA key"),
    ],
)
def test_what_is_no_private_key_is_refused_without_repeating_it(tmp_path: Path, key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_client_key(credentials(tmp_path, key))
    text = f"{caught.value} {caught.value.__cause__!r}"
    assert "PATH_NERSC_PRI_KEY" in text
    assert "iris.nersc.gov" in text
    assert str(PRIVATE["d"]) not in text


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"chmod 600 .*key"):
        read_client_key(credentials(tmp_path, PEM, mode=0o640))


@pytest.mark.parametrize("identifier", ["", "two words", PEM])
def test_what_is_no_identifier_is_refused(tmp_path: Path, identifier: str) -> None:
    with pytest.raises(ConfigError, match="PATH_NERSC_CLIENT_ID"):
        read_client_key(credentials(tmp_path, PEM, identifier=identifier))


def test_a_file_that_is_not_there_and_a_variable_that_is_not_set_are_named(tmp_path: Path) -> None:
    found = credentials(tmp_path, PEM)
    (tmp_path / "key").unlink()
    with pytest.raises(ConfigError, match=r"No such file.*PATH_NERSC_PRI_KEY"):
        read_client_key(found)
    with pytest.raises(ConfigError, match="PATH_NERSC_CLIENT_ID"):
        read_client_key(Credentials())


def test_the_key_is_in_no_text_form(tmp_path: Path) -> None:
    found = read_client_key(credentials(tmp_path, PEM))
    assert "PRIVATE" not in f"{found!r} {found}"
