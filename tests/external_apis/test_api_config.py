"""The schema of api_config: the seed's examples load, everything else is refused with its path."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from external_apis.api_config import PLACEHOLDER, join, parse, schema, split
from external_apis.errors import InvalidConfiguration

FACEBOOK: dict[str, Any] = {
    "base_url": "https://graph.facebook.com/v18.0",
    "api_version": "v18.0",
    "auth_type": "oauth2",
    "oauth2": {
        "client_id": "123456",
        "client_secret": "facebook-secret",
        "authorization_url": "https://www.facebook.com/v18.0/dialog/oauth",
        "token_url": "https://graph.facebook.com/v18.0/oauth/access_token",
        "scopes": ["pages_show_list", "pages_manage_posts", "instagram_basic"],
        "redirect_uri": "https://yourdomain.com/api/admin/oauth/facebook/callback",
    },
    "rate_limit": {"requests_per_hour": 200},
    "webhook": {
        "url": "https://yourdomain.com/api/webhooks/facebook",
        "secret": "hook-secret",
        "events": ["feed", "comments", "reactions"],
    },
}
STRIPE: dict[str, Any] = {
    "base_url": "https://api.stripe.com/v1",
    "api_version": "2024-01-01",
    "auth_type": "bearer",
    "api_key": {"key": "stripe-key", "header_name": "Authorization", "key_prefix": "Bearer "},
    "rate_limit": {"requests_per_second": 100},
    "webhook": {
        "url": "https://yourdomain.com/api/webhooks/stripe",
        "secret": "hook-secret",
        "events": ["payment_intent.succeeded", "charge.failed"],
    },
    "timeout_ms": 30000,
    "retry_config": {"max_retries": 3, "backoff_ms": 1000},
}
TWILIO: dict[str, Any] = {
    "base_url": "https://api.twilio.com/2010-04-01",
    "api_version": "2010-04-01",
    "auth_type": "basic",
    "api_key": {"key": "account_sid:auth_token", "header_name": "Authorization", "key_prefix": "Basic "},
    "rate_limit": {"requests_per_second": 10},
}
SENDGRID: dict[str, Any] = {
    "base_url": "https://api.sendgrid.com/v3",
    "auth_type": "bearer",
    "api_key": {"key": "SG.xxx", "header_name": "Authorization", "key_prefix": "Bearer "},
}
MINIMAL: dict[str, Any] = {"base_url": "https://api.example.com", "auth_type": "none"}


def problems(data: Any, **options: Any) -> list[dict[str, str]]:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(data, **options)
    assert caught.value.message.startswith("Invalid API configuration: ")
    found: list[dict[str, str]] = caught.value.details["errors"]
    return found


@pytest.mark.parametrize("data", [FACEBOOK, STRIPE, TWILIO, SENDGRID])
def test_the_seeds_examples_load_and_survive_storage(data: dict[str, Any]) -> None:
    config = parse(data)
    stored, secrets = split(config)
    for secret in secrets.values():
        assert secret not in repr(stored)
        assert secret not in repr(config)
        assert secret not in str(config)
    assert join(stored, secrets) == config


def test_secrets_are_found_by_path() -> None:
    assert split(parse(FACEBOOK))[1] == {
        "oauth2.client_id": "123456",
        "oauth2.client_secret": "facebook-secret",
        "webhook.secret": "hook-secret",
    }


def test_several_named_headers() -> None:
    data = {
        **MINIMAL,
        "auth_type": "api_key",
        "api_key": {
            "location": "headers",
            "headers": {"DD-API-KEY": "api_key", "DD-APPLICATION-KEY": "application_key"},
            "keys": {"api_key": "one", "application_key": "two"},
        },
    }
    config = parse(data)
    assert split(config)[1] == {"api_key.keys.api_key": "one", "api_key.keys.application_key": "two"}
    assert config.credentials_expected() == {"api_key", "application_key"}


@pytest.mark.parametrize("given", [{}, {"auth_type": "magic"}, {"auth_type": 5}])
def test_the_auth_types_are_listed(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        parse({"base_url": "https://api.example.com", **given})
    types = "oauth2, oauth1, client_credentials, jwt_bearer, api_key, basic, bearer, hmac, aws_sigv4, mtls, none"
    assert caught.value.details["errors"] == [{"path": "api_config.auth_type", "message": f"is not one of {types}"}]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"auth_type": "magic"}, "api_config.auth_type"),
        ({"auth_type": None}, "api_config.auth_type"),
        ({"colour": "red"}, "api_config.colour"),
        ({"base_url": "not a url"}, "api_config.base_url"),
        ({"base_url": "ftp://example.com"}, "api_config.base_url"),
        ({"base_url": "https://user:pass@example.com"}, "api_config.base_url"),
        ({"base_url": "https://example.com/?key=1"}, "api_config.base_url"),
        ({"base_url": "https://example.com#x"}, "api_config.base_url"),
        ({"base_url": "https://exa mple.com"}, "api_config.base_url"),
        ({"base_url": "https://example.com:99999"}, "api_config.base_url"),
        ({"base_url": "https://[::1"}, "api_config.base_url"),
        ({"base_url": "https:///path"}, "api_config.base_url"),
        ({"base_url": "http://api.example.com"}, "api_config.base_url"),
        ({"base_url": 5}, "api_config.base_url"),
        ({"timeout_ms": 0}, "api_config.timeout_ms"),
        ({"timeout_ms": "soon"}, "api_config.timeout_ms"),
        ({"timeout_ms": "30000"}, "api_config.timeout_ms"),
        ({"timeout_ms": True}, "api_config.timeout_ms"),
        ({"timeout_ms": 30000.0}, "api_config.timeout_ms"),
        ({"rate_limit": {"requests_per_day": True}}, "api_config.rate_limit.requests_per_day"),
        ({"rate_limit": {"requests_per_hour": "9"}}, "api_config.rate_limit.requests_per_hour"),
        ({"rate_limit": {"requests_per_minute": 10**9 + 1}}, "api_config.rate_limit.requests_per_minute"),
        ({"retry_config": {"backoff_ms": "1"}}, "api_config.retry_config.backoff_ms"),
        ({"base_url": "https://%00.com/a/../b"}, "api_config.base_url"),
        ({"rate_limit": {"requests_per_second": 0}}, "api_config.rate_limit.requests_per_second"),
        ({"rate_limit": {"per_second": 1}}, "api_config.rate_limit.per_second"),
        ({"retry_config": {"max_retries": 1000}}, "api_config.retry_config.max_retries"),
        ({"default_headers": {"Authorization": "Bearer x"}}, "api_config"),
        ({"default_headers": {"X-A": "a\r\nX-B: b"}}, "api_config.default_headers.X-A"),
        ({"default_headers": {"bad name": "x"}}, "api_config.default_headers.bad name.[key]"),
        ({"webhook": {"url": "https://a.example", "events": "all"}}, "api_config.webhook.events"),
        ({"request_encoding": "xml"}, "api_config.request_encoding"),
        ({"test_path": "https://evil.example"}, "api_config.test_path"),
        ({"auth_type": "oauth2"}, "api_config.oauth2"),
        ({"auth_type": "hmac", "hmac": {"template": "{secret}"}}, "api_config.hmac"),
        ({"auth_type": "api_key", "api_key": {"location": "headers"}}, "api_config.api_key"),
        ({"auth_type": "bearer", "api_key": {"key": PLACEHOLDER}}, "api_config.api_key.key"),
        ({"auth_type": "bearer", "api_key": {"key": ""}}, "api_config.api_key.key"),
        ({"auth_type": "bearer", "api_key": {"key": 12345}}, "api_config.api_key.key"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: dict[str, Any], path: str) -> None:
    assert path in [problem["path"] for problem in problems({**MINIMAL, **change})]


def test_a_scope_list_that_is_a_string_is_refused() -> None:
    data = {**FACEBOOK, "oauth2": {**FACEBOOK["oauth2"], "scopes": "pages_show_list"}}
    assert [problem["path"] for problem in problems(data)] == ["api_config.oauth2.scopes"]


@pytest.mark.parametrize("data", [None, [], "x", 5, {}])
def test_what_is_no_configuration_at_all_is_refused(data: Any) -> None:
    assert problems(data)


def test_http_is_for_other_environments_and_for_addresses_of_ours_on_the_loopback() -> None:
    assert parse({**MINIMAL, "base_url": "http://10.0.0.5:8080"}, environment="development")
    local = {**FACEBOOK, "oauth2": {**FACEBOOK["oauth2"], "redirect_uri": "http://127.0.0.1:8000/callback"}}
    assert parse(local)
    far = {**FACEBOOK, "oauth2": {**FACEBOOK["oauth2"], "redirect_uri": "http://example.com/callback"}}
    assert problems(far)[0]["path"] == "api_config.oauth2.redirect_uri"
    token = {**FACEBOOK, "oauth2": {**FACEBOOK["oauth2"], "token_url": "http://127.0.0.1/token"}}
    assert problems(token)[0]["path"] == "api_config.oauth2.token_url"


def test_no_message_repeats_a_secret() -> None:
    data = {**STRIPE, "api_key": {"key": "swordfish" * 3000, "colour": "swordfish"}, "timeout_ms": "swordfish"}
    assert "swordfish" not in repr(problems(data))


def test_an_opened_configuration_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(parse(STRIPE))


def test_the_schema_knows_every_auth_type() -> None:
    assert set(schema()["discriminator"]["mapping"]) == {
        "oauth2", "oauth1", "client_credentials", "jwt_bearer", "api_key", "basic", "bearer", "hmac", "aws_sigv4",
        "mtls", "none",
    }  # fmt: skip
