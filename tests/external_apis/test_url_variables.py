"""URL variables: filled for each connection, and never a way to another host or folder."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_apis.api_config import join, parse, split, url_values
from external_apis.errors import InvalidConfiguration, InvalidInput
from external_apis.url_variables import fill_path, fill_url

SHOP: dict[str, Any] = {
    "base_url": "https://{shop}.myshopify.com/admin/api/{version}",
    "auth_type": "none",
    "url_variables": {
        "shop": {"pattern": "[a-z0-9][a-z0-9-]*", "description": "Before .myshopify.com"},
        "version": {"pattern": "[0-9]{4}-[0-9]{2}", "default": "2026-01"},
    },
}


def problems(data: dict[str, Any], provider_data: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        url_values(parse(data), provider_data)
    return {item["path"]: item["message"] for item in caught.value.details["errors"]}


def test_values_come_from_the_connection_or_the_default() -> None:
    config = parse(SHOP)
    values = url_values(config, {"shop": "acme", "unrelated": [1]})
    assert fill_url(config.base_url, values) == "https://acme.myshopify.com/admin/api/2026-01"
    values = url_values(config, {"shop": "acme", "version": "2025-10"})
    assert fill_url(config.base_url, values) == "https://acme.myshopify.com/admin/api/2025-10"


def test_the_declaration_survives_storage() -> None:
    config = parse(SHOP)
    assert join(*split(config)) == config
    assert split(config)[0]["url_variables"]["version"] == SHOP["url_variables"]["version"] | {"description": ""}


def test_what_is_missing_or_wrong_is_named() -> None:
    assert problems(SHOP, {}) == {"provider_data.shop": "is missing; the provider's URL needs it"}
    assert set(problems(SHOP, {"shop": "Acme Inc", "version": "new"})) == {
        "provider_data.shop",
        "provider_data.version",
    }
    for value in (None, "", 1.5, True, ["a"], {"a": 1}, "a" * 201):
        assert "provider_data.shop" in problems(SHOP, {"shop": value})


def test_a_number_will_do() -> None:
    assert url_values(parse(SHOP), {"shop": 42})["shop"] == "42"


HOSTILE = (
    "evil.com/", "evil.com#", "evil.com?", "evil.com:443", "user@evil.com", "evil.com\\", "a%2Fb", "a b", "a\nb", "-a",
    "a..b", ".", "..", "...", "[::1]", "a.", "éa", "a\0",
)  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_even_a_pattern_that_allows_everything_does_not_open_the_host(value: str) -> None:
    config = {**SHOP, "url_variables": {"shop": {"pattern": "(?s).*"}, "version": {"default": "1"}}}
    assert "provider_data.shop" in problems(config, {"shop": value})
    assert "evil" not in repr(problems(config, {"shop": value}))


@given(st.text(max_size=40))
def test_no_value_leads_to_another_host_or_folder(value: str) -> None:
    anything = {"pattern": "(?s).*"}
    data = {"base_url": "https://{shop}.example.com/v1/{part}/end", "auth_type": "none",
            "url_variables": {"shop": anything, "part": anything}}  # fmt: skip
    config = parse(data)
    try:
        values = url_values(config, {"shop": "a" if value.count("/") else value or "a", "part": value or "p"})
    except InvalidInput:
        return
    parts = urlsplit(fill_url(config.base_url, values))
    assert parts.scheme == "https"
    assert parts.netloc.endswith(".example.com")
    assert parts.hostname == parts.netloc.lower()
    assert parts.path.startswith("/v1/")
    assert parts.path.endswith("/end")
    assert len(parts.path.split("/")) == 4
    assert not {".", ".."} & set(parts.path.split("/"))
    assert not parts.query
    assert not parts.fragment


def test_a_path_variable_is_encoded_and_unknown_braces_stay() -> None:
    assert fill_path("/Accounts/{sid}/{other}", {"sid": "a/b?c#d%"}) == "/Accounts/a%2Fb%3Fc%23d%25/{other}"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"base_url": "https://{shop}.com"}, "api_config.base_url"),
        ({"base_url": "https://{shop}"}, "api_config.base_url"),
        ({"base_url": "https://api.example.com{shop}"}, "api_config.base_url"),
        ({"base_url": "https://api.example.{shop}"}, "api_config.base_url"),
        ({"base_url": "https://{shop}.0.0.1"}, "api_config.base_url"),
        ({"base_url": "https://api.example.com:{shop}"}, "api_config.base_url"),
        ({"base_url": "https://{shop}@api.example.com"}, "api_config.base_url"),
        ({"base_url": "{shop}://api.example.com"}, "api_config.base_url"),
        ({"base_url": "https://{Shop}.example.com"}, "api_config.base_url"),
        ({"base_url": "https://{shop.example.com"}, "api_config.base_url"),
        ({"base_url": "https://x.example.com/{unknown}"}, "api_config"),
        ({"test_path": "/{unknown}"}, "api_config"),
        ({"url_variables": {"shop": {"pattern": "("}}}, "api_config.url_variables.shop.pattern"),
        ({"url_variables": {"shop": {"pattern": "a)|(b"}}}, "api_config.url_variables.shop.pattern"),
        ({"url_variables": {"shop": {"pattern": "(?=a)"}}}, "api_config.url_variables.shop.pattern"),
        ({"url_variables": {"Shop": {}}}, "api_config.url_variables.Shop.[key]"),
    ],
)
def test_a_declaration_that_could_lead_elsewhere_is_refused(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        parse({**SHOP, "base_url": "https://{shop}.myshopify.com", **change})
    assert path in [item["path"] for item in caught.value.details["errors"]]


def test_no_pattern_takes_long() -> None:
    config = {**SHOP, "url_variables": {"shop": {"pattern": "(a+)+b"}, "version": {"default": "1"}}}
    started = time.monotonic()
    assert "provider_data.shop" in problems(config, {"shop": "a" * 200})
    assert time.monotonic() - started < 1


def test_oauth_addresses_may_hold_variables_too() -> None:
    data: dict[str, Any] = {
        **SHOP,
        "auth_type": "oauth2",
        "oauth2": {
            "authorization_url": "https://{shop}.myshopify.com/admin/oauth/authorize",
            "token_url": "https://{shop}.myshopify.com/admin/oauth/access_token",
        },
    }
    assert parse(data)
    data["oauth2"]["token_url"] = "https://{store}.myshopify.com/token"
    with pytest.raises(InvalidConfiguration, match=r"does not declare \{store\}"):
        parse(data)
