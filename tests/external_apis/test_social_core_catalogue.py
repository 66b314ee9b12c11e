"""Presets read of social-core's backends, and each backend that is none, with its reason."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from external_apis import catalogue
from external_apis.api_config import parse, secret_values
from external_apis.catalogue import social_core
from external_apis.models import CatalogueEntry, ExternalApi

BACKENDS = social_core.read()
OWN_ADDRESS = "its addresses need settings of an installation's own"
BY_GET = "it asks for tokens with GET, which puts the client's secret into URLs"
OTHER_NAMES = "its requests name the client or the code otherwise than OAuth 2.0 does"


def config_of(name: str) -> dict[str, Any]:
    return dict(BACKENDS.plain[name].api_config)


def test_all_named_backends_are_accounted_for() -> None:
    assert len(BACKENDS.plain) >= 120
    assert len(BACKENDS.discovered) >= 30
    assert len(BACKENDS.plain) + len(BACKENDS.discovered) + len(BACKENDS.left_out) == 188


def test_each_backend_left_out_has_its_reason() -> None:
    assert BACKENDS.left_out == {
        "auth0": f"{OWN_ADDRESS}: domain",
        "auth0_openidconnect": f"{OWN_ADDRESS}: domain",
        "azuread-b2c-oauth2": OWN_ADDRESS,
        "bitbucket-datacenter-oauth2": f"{OWN_ADDRESS}: url",
        "cas": f"{OWN_ADDRESS}: oidc_endpoint",
        "casdoor": f"{OWN_ADDRESS}: oidc_endpoint",
        "cognito": f"{OWN_ADDRESS}: pool_domain",
        "deezer": OTHER_NAMES,
        "eduid-staging": OWN_ADDRESS,
        "facebook": BY_GET,
        "facebook-app": BY_GET,
        "github-enterprise": f"{OWN_ADDRESS}: url",
        "github-enterprise-org": f"{OWN_ADDRESS}: url",
        "github-enterprise-team": f"{OWN_ADDRESS}: url",
        "keycloak": OWN_ADDRESS,
        "loginradius": OWN_ADDRESS,
        "mediawiki": OWN_ADDRESS,
        "oidc": f"{OWN_ADDRESS}: oidc_endpoint",
        "okta-oauth2": OWN_ADDRESS,
        "okta-openidconnect": f"{OWN_ADDRESS}: api_url, key",
        "openshift": OWN_ADDRESS,
        "ping": OWN_ADDRESS,
        "scistarter": f"{OWN_ADDRESS}: secret",
        "uffd": f"{OWN_ADDRESS}: base_url",
        "untappd": BY_GET,
        "vault": f"{OWN_ADDRESS}: oidc_endpoint",
        "vend": OWN_ADDRESS,
        "weixin": OTHER_NAMES,
        "weixinapp": OTHER_NAMES,
    }


@pytest.mark.parametrize("name", BACKENDS.plain)
def test_each_plain_backend_makes_a_production_provider(name: str) -> None:
    preset = BACKENDS.plain[name]
    config = parse(preset.api_config, environment="production")
    assert secret_values(config) == {}
    assert "None" not in str(preset.api_config)
    ExternalApi(
        name=preset.name, slug=preset.slug, category=preset.category, provider=preset.provider, api_config={"a": 1}
    ).clean_fields()


def test_those_that_want_discovery_say_where() -> None:
    for preset in BACKENDS.discovered.values():
        block = preset.api_config["oauth2"]
        assert block["discovery_url"].endswith("/.well-known/openid-configuration")
        assert "token_url" not in block


def test_the_dialects_are_read() -> None:
    spotify, twitter, atlassian, qiita = map(config_of, ("spotify", "twitter-oauth2", "atlassian", "qiita"))
    assert spotify == {
        "base_url": "https://api.spotify.com",
        "auth_type": "oauth2",
        "oauth2": {
            "authorization_url": "https://accounts.spotify.com/authorize",
            "token_url": "https://accounts.spotify.com/api/token",
            "client_auth": "basic",
        },
    }
    assert twitter["oauth2"]["scopes"] == ["users.read", "tweet.read"]
    assert atlassian["oauth2"]["authorize_params"] == {"audience": "api.atlassian.com", "prompt": "consent"}
    assert qiita["oauth2"]["token_request"] == "json"
    assert config_of("strava")["oauth2"]["scope_separator"] == ","
    assert config_of("mendeley-oauth2")["oauth2"].get("scope_separator") is None, "a plus is a form's space"
    assert config_of("coinbase")["oauth2"]["revocation_url"] == "https://login.coinbase.com/oauth2/revoke"
    assert config_of("vimeo-oauth2")["oauth2"]["refresh_url"] == "https://api.vimeo.com/oauth/request_token"
    assert config_of("azuread-oauth2-v2")["oauth2"]["scopes"] == ["User.Read", "profile", "openid", "email"]


def test_an_unset_part_of_an_address_becomes_a_url_variable() -> None:
    config = config_of("nationbuilder")
    assert config["base_url"] == "https://{slug}.nationbuilder.com"
    assert config["url_variables"] == {"slug": {}}


def test_oauth1_has_its_three_addresses() -> None:
    assert config_of("trello") == {
        "base_url": "https://trello.com",
        "auth_type": "oauth1",
        "oauth1": {
            "request_token_url": "https://trello.com/1/OAuthGetRequestToken",
            "authorization_url": "https://trello.com/1/OAuthAuthorizeToken",
            "access_token_url": "https://trello.com/1/OAuthGetAccessToken",
        },
    }


def test_ours_stand_and_theirs_fill_what_is_open() -> None:
    own, shipped = catalogue.presets(), catalogue.shipped()
    assert len(own) >= 40
    assert set(own) <= set(shipped)
    assert shipped["slack"] == own["slack"], "theirs is of an older release of Slack's endpoints"
    assert shipped["zoom"].api_config["oauth2"] == {**own["zoom"].api_config["oauth2"], "client_auth": "basic"}
    assert "zoom-oauth2" not in shipped
    assert shipped["stripe"] == own["stripe"]
    assert shipped["stripe-oauth2"].api_config["auth_type"] == "oauth2"


def test_no_two_entries_look_alike() -> None:
    counts = Counter(preset.name for preset in catalogue.shipped().values())
    assert {name for name, count in counts.items() if count > 1} == set()
    for slug, preset in catalogue.shipped().items():
        assert slug == preset.slug


@pytest.mark.django_db
def test_they_are_seeded() -> None:
    catalogue.seed()
    assert CatalogueEntry.objects.get(slug="spotify").api_config == config_of("spotify")
    assert CatalogueEntry.objects.filter(api_config__oauth2__has_key="discovery_url").count() >= 30
    found = catalogue.find("globus")
    assert found is not None
    assert found.api_config == BACKENDS.discovered["globus"].api_config


def test_the_product_starts_without_the_backends() -> None:
    """Half a second at each start of each process would be spent on 170 modules."""
    program = (
        "import sys, django; django.setup(); from external_apis import catalogue; catalogue.presets();"
        "print('social_core.backends.spotify' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
