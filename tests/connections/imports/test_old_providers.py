"""What the two libraries call a provider, and when social-auth says that a token ends: no database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from connections.imports.django_oauth import allauth, social_auth
from connections.imports.django_oauth.clients import variable_name
from connections.imports.django_oauth.expiry import read_expiry, write_expiry
from connections.imports.django_oauth.names import candidates
from connections.imports.django_oauth.old_rows import read_object
from external_apis import catalogue
from external_apis.errors import InvalidInput
from external_apis.oauth_config import BY_CONSENT

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        # social-auth's
        ("google-oauth2", "google-oauth2"),
        ("facebook", "facebook"),
        ("github", "github-oauth2"),
        ("gitlab", "gitlab-oauth2"),
        ("slack", "slack"),
        ("linkedin-oauth2", "linkedin"),
        ("linkedin-openidconnect", "linkedin-openidconnect"),
        ("twitter", "twitter"),
        ("twitter-oauth2", "twitter-oauth2"),
        ("dropbox-oauth2", "dropbox"),
        ("spotify", "spotify"),
        ("azuread-oauth2", "azuread-oauth2"),
        ("discord", "discord-oauth2"),
        ("salesforce-oauth2", "salesforce"),
        # allauth's
        ("google", "google-oauth2"),
        ("linkedin_oauth2", "linkedin"),
        ("twitter_oauth2", "twitter-oauth2"),
        ("bitbucket_oauth2", "bitbucket-oauth2"),
        ("microsoft", "microsoft-graph"),
        ("apple", "apple-id"),
        ("box", "box"),
        ("reddit", "reddit"),
        ("hubspot", "hubspot-oauth2"),
        ("zoom", "zoom"),
    ],
)
def test_well_known_names_lead_to_the_catalogue(name: str, slug: str) -> None:
    presets = catalogue.shipped()
    known = [one for one in candidates(name) if one in presets and presets[one].api_config["auth_type"] in BY_CONSENT]
    assert known[0] == slug


def test_names_that_are_none_lead_nowhere() -> None:
    assert candidates("") == candidates("../..") == candidates("\u202e") == ()


def test_settings_are_named_as_social_auth_names_them() -> None:
    assert variable_name("google-oauth2") == "GOOGLE_OAUTH2"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"expires_on": str(SECONDS)}, NOW),
        ({"expires_in": 3600, "auth_time": SECONDS - 3600}, NOW),
        ({"expires": "3600", "auth_time": SECONDS - 3600}, NOW),
        ({"expires": SECONDS}, NOW),
        ({"expires_in": 3600}, None),
        ({"expires": 3600, "auth_time": "soon"}, None),
        ({"expires": None}, None),
        ({"expires": True, "auth_time": SECONDS}, None),
        ({"expires_on": 10**30}, None),
        ({"expires_on": float("nan")}, None),
        ({"expires_on": [SECONDS]}, None),
        ({}, None),
    ],
)
def test_each_spelling_of_an_end_is_read(data: dict[str, Any], expected: datetime | None) -> None:
    assert read_expiry(data) == expected


@pytest.mark.parametrize(
    "data",
    [{"expires_on": 1}, {"expires_in": 1}, {"expires": 1}, {"expires": SECONDS}, {}, {"expires_in": 1, "expires": 1}],
)
def test_an_end_is_written_as_it_is_read(data: dict[str, Any]) -> None:
    ends_at = datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert read_expiry({**data, **write_expiry(data, ends_at, NOW)}) == ends_at
    assert read_expiry({**data, **write_expiry(data, None, NOW)}) is None


@pytest.mark.parametrize("text", ["{", "[]", "1", '"[1]"', '"{"', "[" * 100_000, "x" * 2_000_001])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_object(text)


@pytest.mark.parametrize("token", ["", None, "two\nlines", "ünï", "x" * 20_001, 5, {}, {"oauth_token": "alone"}])
def test_tokens_that_no_request_could_carry_are_named_and_not_quoted(token: Any) -> None:
    row = {"id": 1, "provider": "p", "uid": "u", "extra_data": json.dumps({"access_token": token})}
    found = social_auth.read_row(row, None)
    assert found.tokens is None
    assert found.problem
    assert str(token) not in found.problem or not token


def test_a_secret_of_allauth_is_a_refresh_token_unless_its_provider_speaks_oauth_1() -> None:
    row = {"id": 1, "uid": "u", "token": "t", "token_secret": "s", "expires_at": None, "client_id": None}
    modern, ancient = (allauth.read_row({**row, "provider": name}, None).tokens for name in ("google", "twitter"))
    assert modern is not None
    assert (modern.refresh_token, modern.token_secret) == ("s", None)
    assert ancient is not None
    assert (ancient.refresh_token, ancient.token_secret) == (None, "s")
