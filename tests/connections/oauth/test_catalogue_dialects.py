"""Answers as vendors document them, read through the catalogue's own entries."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from urllib3 import HTTPHeaderDict

from connections.oauth.answers import read_answer, read_tokens
from connections.oauth.backends import Client, ProviderOAuth2
from connections.oauth.strategy import AttemptStrategy
from external_apis import catalogue
from external_apis.api_config import parse
from external_apis.errors import GrantRefused
from external_apis.oauth_config import OAuth2
from external_apis.transport import Answer
from tests.authority import query_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOGLE = ("gmail", "google-analytics", "google-drive", "google-identity", "youtube")
MICROSOFT = ("microsoft-graph", "microsoft-teams", "onedrive")


def block_of(slug: str) -> Any:
    config = catalogue.shipped()[slug].api_config
    block = {**config[config["auth_type"]], "client_id": "client-1", "client_secret": "secret-of-the-tests"}
    return getattr(parse({**config, config["auth_type"]: block}, environment="production"), config["auth_type"])


def read(slug: str, fields: dict[str, Any], status: int = 200) -> Any:
    answer = Answer(status, "", HTTPHeaderDict({"Content-Type": "application/json"}), body=json.dumps(fields).encode())
    block = block_of(slug)
    return read_tokens(read_answer(answer, block, "It", (), NOW), block, "It", NOW)


def asked_of(slug: str) -> dict[str, str]:
    client = Client(block_of(slug), {"instance": "acme"})
    return query_of(ProviderOAuth2(client, AttemptStrategy(), "https://x.example/callback", timezone.now()).auth_url())


def missing(slug: str, granted: tuple[str, ...]) -> set[str]:
    block: OAuth2 = block_of(slug)
    return set(block.scopes) - {*granted, *block.implied_scopes}


@pytest.mark.parametrize("slug", GOOGLE)
def test_google_gives_a_refresh_token_to_offline_access_with_renewed_consent_alone(slug: str) -> None:
    """https://developers.google.com/identity/protocols/oauth2/web-server"""
    asked = asked_of(slug)
    assert (asked["access_type"], asked["prompt"]) == ("offline", "consent")
    assert str(block_of(slug).revocation_url) == "https://oauth2.googleapis.com/revoke"


def test_google_offers_device_codes_for_a_few_scopes_alone() -> None:
    """https://developers.google.com/identity/protocols/oauth2/limited-input-device#allowedscopes"""
    allowed = {"google-drive", "google-identity", "youtube"}
    assert {slug for slug in GOOGLE if block_of(slug).device_authorization_url} == allowed


def test_google_grants_email_and_profile_under_other_names() -> None:
    prefix = "https://www.googleapis.com/auth/userinfo"
    tokens = read(
        "google-identity",
        {"access_token": "at-1", "expires_in": 3599, "scope": f"openid {prefix}.email {prefix}.profile"},
    )
    assert missing("google-identity", tokens.scopes) == set()


@pytest.mark.parametrize("slug", MICROSOFT)
def test_microsoft_never_names_offline_access_and_may_want_the_user_again(slug: str) -> None:
    """https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow"""
    block = block_of(slug)
    named = " ".join(scope for scope in block.scopes if scope != "offline_access")
    tokens = read(slug, {"access_token": "at-1", "expires_in": 3599, "scope": named})
    assert missing(slug, tokens.scopes) == set()
    with pytest.raises(GrantRefused) as caught:
        read(slug, {"error": "interaction_required", "error_description": "AADSTS50076"}, 400)
    assert caught.value.is_final


def test_slack_wants_commas_and_no_pkce() -> None:
    """https://docs.slack.dev/authentication/installing-with-oauth and /using-pkce"""
    asked = asked_of("slack")
    assert asked["scope"] == "chat:write,channels:read,users:read"
    assert "code_challenge" not in asked


def test_slack_tells_of_its_workspace() -> None:
    """https://docs.slack.dev/reference/methods/oauth.v2.access"""
    tokens = read(
        "slack",
        {
            "ok": True,
            "access_token": "xoxe.xoxb-1",
            "token_type": "bot",
            "scope": "chat:write,channels:read,users:read",
            "bot_user_id": "U0",
            "team": {"id": "T0", "name": "Acme"},
            "enterprise": None,
            "expires_in": 43200,
            "refresh_token": "xoxe-1",
        },
    )
    assert missing("slack", tokens.scopes) == set()
    assert tokens.expires_at == NOW + timedelta(hours=12)
    assert tokens.provider_data == {"team_id": "T0", "bot_user_id": "U0"}


@pytest.mark.parametrize(
    ("slug", "status", "fields"),
    [
        ("slack", 200, {"ok": False, "error": "invalid_refresh_token"}),
        ("slack", 200, {"ok": False, "error": "token_revoked"}),
        ("twitch", 400, {"error": "Bad Request", "status": 400, "message": "Invalid refresh token"}),
        ("reddit", 200, {"error": "invalid_grant"}),
    ],
)
def test_a_grant_that_is_over_is_known_by_the_vendors_own_word(slug: str, status: int, fields: dict[str, Any]) -> None:
    with pytest.raises(GrantRefused) as caught:
        read(slug, fields, status)
    assert caught.value.is_final


def test_salesforce_names_no_expiry_and_tells_where_its_instance_is() -> None:
    """https://developer.salesforce.com/docs/platform/mobile-sdk/guide/oauth-refresh-token-flow.html"""
    fields = {
        "access_token": "00D!at-1",
        "signature": "s",
        "scope": "refresh_token api",
        "instance_url": "https://acme.my.salesforce.com",
        "id": "https://login.salesforce.com/id/00D/005",
        "issued_at": "1708058728442",
    }
    tokens = read("salesforce", fields)
    assert tokens.expires_at == NOW + timedelta(hours=2)
    assert tokens.provider_data == {"instance_url": fields["instance_url"], "identity_url": fields["id"]}


@pytest.mark.parametrize(("slug", "hours"), [("facebook", 60 * 24), ("instagram", 1), ("threads", 1)], ids=str)
def test_metas_tokens_end_although_no_answer_says_so(slug: str, hours: int) -> None:
    """https://developers.facebook.com/docs/instagram-platform, /docs/threads/get-started/long-lived-tokens"""
    tokens = read(slug, {"access_token": "at-1", "user_id": 178414})
    assert tokens.expires_at == NOW + timedelta(hours=hours)
    assert tokens.refresh_token is None


def test_instagram_calls_scopes_permissions() -> None:
    granted = "instagram_business_basic,instagram_business_content_publish"
    tokens = read("instagram", {"access_token": "at-1", "user_id": 1, "permissions": granted})
    assert missing("instagram", tokens.scopes) == set()


def test_linkedin_refuses_proof_keys_of_web_applications() -> None:
    """https://learn.microsoft.com/en-us/linkedin/shared/authentication/authorization-code-flow-native"""
    assert "code_challenge" not in asked_of("linkedin")
    assert asked_of("x")["code_challenge_method"] == "S256"


@pytest.mark.parametrize(
    ("slug", "name", "value"),
    [("reddit", "duration", "permanent"), ("dropbox", "token_access_type", "offline")],
)
def test_some_give_refresh_tokens_to_those_who_ask(slug: str, name: str, value: str) -> None:
    assert asked_of(slug)[name] == value


@pytest.mark.parametrize("slug", ["paypal", "pinterest", "reddit", "slack", "ups", "x", "zoom"])
def test_some_want_the_client_as_http_basic(slug: str) -> None:
    assert block_of(slug).client_auth == "basic"
