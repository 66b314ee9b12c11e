"""The OAuth blocks of a configuration: what providers may make different, and what they may not."""

from __future__ import annotations

from typing import Any

import pytest

from external_apis.api_config import join, parse, split
from external_apis.errors import InvalidConfiguration

URLS = {"authorization_url": "https://a.example.com/authorize", "token_url": "https://a.example.com/token"}


def config(**block: Any) -> dict[str, Any]:
    return {"base_url": "https://api.example.com", "auth_type": "oauth2", "oauth2": {**URLS, **block}}


def test_what_was_stored_before_there_were_quirks_is_read() -> None:
    old = config(scopes=["read"])
    parsed: Any = join(old, {"oauth2.client_id": "c", "oauth2.client_secret": "s"})
    assert (parsed.oauth2.pkce, parsed.oauth2.client_auth, parsed.oauth2.scope_separator) == (True, "body", " ")
    assert parsed.oauth2.refresh_margin_seconds == 300
    machine = {"base_url": "https://a.example.com", "auth_type": "client_credentials"}
    assert join({**machine, "client_credentials": {"token_url": URLS["token_url"]}}, {})


def test_all_quirks_survive_storing() -> None:
    block = {
        "client_id": "c", "client_secret": "s", "scopes": ["a"], "scope_separator": ",", "client_auth": "basic",
        "token_request": "json", "pkce": False, "issuer": "https://a.example.com", "iss_required": True,
        "authorize_params": {"prompt": "consent"}, "token_params": {"audience": "x"}, "refresh_margin_seconds": 60,
        "access_token_path": "authed_user.access_token", "expires_kind": "date", "implied_scopes": ["offline_access"],
        "final_errors": ["token_revoked"], "kept_answer_fields": {"team": "team.id"}, "default_life_seconds": 60,
        "discovery_url": "https://a.example.com/.well-known/x", "revocation_url": "https://a.example.com/revoke",
        "device_authorization_url": "https://a.example.com/device", "refresh_url": "https://a.example.com/refresh",
    }  # fmt: skip
    parsed = parse(config(**block))
    stored, secrets = split(parsed)
    assert secrets == {"oauth2.client_id": "c", "oauth2.client_secret": "s"}
    assert join(stored, secrets) == parsed


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ({"authorize_params": {"state": "x"}}, "authorize_params"),
        ({"authorize_params": {"redirect_uri": "x"}}, "authorize_params"),
        ({"token_params": {"client_secret": "x"}}, "token_params"),
        ({"token_params": {"grant_type": "password"}}, "token_params"),
        ({"token_params": {"a b": "x"}}, "token_params.a b.[key]"),
        ({"iss_required": True}, ""),
        ({"issuer": "not a url"}, "issuer"),
        ({"revocation_url": "http://a.example.com/revoke"}, "revocation_url"),
        ({"device_authorization_url": "https://user:pw@a.example.com"}, "device_authorization_url"),
        ({"access_token_path": ""}, "access_token_path"),
        ({"access_token_path": "a..b"}, "access_token_path"),
        ({"scope_separator": ""}, "scope_separator"),
        ({"client_auth": "none"}, "client_auth"),
        ({"refresh_margin_seconds": -1}, "refresh_margin_seconds"),
        ({"refresh_margin_seconds": "60"}, "refresh_margin_seconds"),
        ({"kept_answer_fields": {"Team": "x"}}, "kept_answer_fields.Team.[key]"),
        ({"final_errors": [""]}, "final_errors.0"),
    ],
)
def test_what_cannot_be(block: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(config(**block))
    expected = f"api_config.oauth2.{path}".rstrip(".")
    assert [error["path"] for error in caught.value.details["errors"]] == [expected]


def test_assertions_are_an_auth_type_of_their_own() -> None:
    block = {"token_url": URLS["token_url"], "private_key": "pem", "issuer": "me", "claims": {"x": "y"}}
    parsed = parse({"base_url": "https://a.example.com", "auth_type": "jwt_bearer", "jwt_bearer": block})
    assert parsed.credentials_expected() == {"access_token", "private_key", "key_id", "issuer", "subject"}
    assert split(parsed)[1] == {"jwt_bearer.private_key": "pem"}


def test_variables_stand_in_the_names_of_issuers_too() -> None:
    issuer = config(issuer="https://login.example.com/{directory}/v2.0")
    with pytest.raises(InvalidConfiguration, match="directory"):
        parse(issuer)
    assert parse({**issuer, "url_variables": {"directory": {}}})


def test_the_consumers_private_key_is_a_secret() -> None:
    block = {
        "request_token_url": "https://a.example.com/r", "authorization_url": URLS["authorization_url"],
        "access_token_url": "https://a.example.com/a", "consumer_key": "k", "consumer_private_key": "pem",
        "signature_method": "RSA-SHA1",
    }  # fmt: skip
    parsed = parse({"base_url": "https://a.example.com", "auth_type": "oauth1", "oauth1": block})
    assert split(parsed)[1] == {"oauth1.consumer_key": "k", "oauth1.consumer_private_key": "pem"}
