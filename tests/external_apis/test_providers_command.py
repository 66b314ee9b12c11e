"""``manage.py providers list|show|add``: the catalogue in a shell."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from external_apis import catalogue
from external_apis.callbacks import callback_url
from external_apis.models import CatalogueEntry, ExternalApi
from external_apis.providers import get_api_config
from tests.factories import make_provider, make_tenant
from tests.oidc_provider import OidcProvider

pytestmark = pytest.mark.django_db

SECRET = "the-clients-secret-of-this-test"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def run(*arguments: str, out: StringIO | None = None) -> str:
    out = out or StringIO()
    call_command("providers", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return str(path)


def added(output: str) -> ExternalApi:
    return ExternalApi.objects.get(pk=output.splitlines()[0])


def test_the_list_can_be_narrowed_and_counts_what_is_stored(django_assert_num_queries: Any) -> None:
    catalogue.seed()
    make_provider(slug="stripe")
    everything = run("list").splitlines()
    assert len(everything) == len(catalogue.shipped())
    payment = [line.split("\t") for line in run("list", "--category", "payment").splitlines()]
    assert {line[2] for line in payment} == {"payment"}
    assert ["stripe", "1"] in [[line[0], line[-1]] for line in payment]
    found = json.loads(run("list", "--search", "SPOTI", "--json"))
    assert found == [
        {
            "slug": "spotify",
            "name": "Spotify",
            "category": "social",
            "authentication": "oauth2",
            "base_url": "https://api.spotify.com",
            "providers": 0,
        }
    ]
    assert run("list", "--search", "no such vendor") == ""
    with django_assert_num_queries(2):
        run("list")


def test_a_terminal_gets_a_table() -> None:
    catalogue.seed()
    text = run("list", "--search", "zoom", out=Terminal())
    assert "zoom" in text
    assert "1 definitions" in text


def test_show_tells_definition_providers_and_callback_and_no_secret(settings: Any, secret_file: str) -> None:
    settings.PUBLIC_BASE_URL = "https://apis.example.com"
    catalogue.seed()
    run("add", "spotify", "--client-id", "abc", "--client-secret-file", secret_file)
    text = run("show", "spotify")
    shown = json.loads(text)
    (provider,) = shown["providers"]
    assert shown["definition"]["api_config"]["oauth2"]["client_auth"] == "basic"
    expected = f"https://apis.example.com/admin/external-apis/{provider['id']}/oauth/callback"
    assert provider["callback_url"] == expected
    assert SECRET not in text
    assert set(provider["api_config"]["oauth2"]["client_secret_encrypted"]) == {"keyVersion", "fingerprint", "hint"}
    assert json.loads(run("show", provider["id"]))["providers"] == [provider]
    with pytest.raises(CommandError, match="Neither the catalogue nor the stored providers have nothing"):
        run("show", "nothing")


def test_a_configured_callback_is_the_callback() -> None:
    oauth2 = {"authorization_url": "https://a.example.com/a", "token_url": "https://a.example.com/t"}
    config = {"auth_type": "oauth2", "oauth2": {**oauth2, "redirect_uri": "https://own.example.com/back"}}
    assert callback_url(make_provider(api_config=config)) == "https://own.example.com/back"
    assert callback_url(make_provider()) == ""


def test_add_stores_the_definition_with_the_client(secret_file: str) -> None:
    catalogue.seed()
    tenant = make_tenant("north")
    output = run(
        *("add", "spotify", "--as", "our-spotify", "--name", "Ours", "--tenant", "north", "--environment", "staging"),
        *("--client-id", "abc", "--client-secret-file", secret_file),
        *("--set", 'oauth2.scopes=["user-read-email"]', "--set", "base_url=https://api.spotify.com/v1"),
        *("--set", "timeout_ms=5000"),
    )
    api = added(output)
    assert (api.slug, api.name, api.tenant, api.environment) == ("our-spotify", "Ours", tenant, "staging")
    config = get_api_config(api.pk).api_config
    assert config.oauth2.client_secret.get_secret_value() == SECRET  # type: ignore[union-attr]
    assert config.oauth2.client_id.get_secret_value() == "abc"  # type: ignore[union-attr]
    assert config.oauth2.scopes == ["user-read-email"]  # type: ignore[union-attr]
    assert (config.base_url, config.timeout_ms) == ("https://api.spotify.com/v1", 5000)
    assert f"/admin/external-apis/{api.pk}/oauth/callback" in output
    assert SECRET not in output


def test_the_secret_comes_from_stdin_or_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue.seed()
    monkeypatch.setattr("sys.stdin", StringIO(f"{SECRET}\nmore\n"))
    api = added(run("add", "trello", "--client-id", "abc", "--client-secret-stdin"))
    assert get_api_config(api.pk).api_config.oauth1.consumer_secret.get_secret_value() == SECRET  # type: ignore[union-attr]
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("external_apis.management.commands.providers.getpass", lambda _: SECRET)
    api = added(run("add", "spotify", "--client-id", "abc"))
    assert set(api.fingerprints) == {"oauth2.client_id", "oauth2.client_secret"}
    api = added(run("add", "stripe"))  # nobody is asked for what a bearer provider has not
    assert api.fingerprints == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such"], "The catalogue has no no-such"),
        ([], "Name a definition"),
        (["spotify", "--tenant", "nobody"], "Tenant nobody not found"),
        (["spotify", "--client-secret-file", "/no/such/file"], "/no/such/file cannot be read"),
        (["spotify", "--set", f"oauth2.client_secret={SECRET}"], "oauth2.client_secret is a secret"),
        (["spotify", "--set", f"client_secret={SECRET}"], "api_config.client_secret: Extra inputs"),
        (["spotify", "--set", SECRET], "is not PATH=VALUE"),
        (["spotify", "--set", "base_url.deep=1"], "base_url.deep lies inside base_url"),
        (["spotify", "--set", "oauth2=1"], "api_config.oauth2"),
        (["spotify", "--set", "base_url=http://api.spotify.com"], "api_config.base_url: uses http"),
        (["stripe", "--client-id", "abc"], "has no client id"),
        (["spotify", "--discover", "ftp://a.example"], "An issuer is an https URL"),
    ],
)
def test_what_cannot_be_added_is_refused_without_repeating_a_secret(arguments: list[str], message: str) -> None:
    catalogue.seed()
    with pytest.raises(CommandError) as caught:
        run("add", *arguments)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not ExternalApi.objects.exists()


def test_a_second_one_under_the_slug_collides() -> None:
    catalogue.seed()
    run("add", "stripe")
    with pytest.raises(CommandError, match="exists already"):
        run("add", "stripe")


def test_an_issuer_is_discovered(oidc_provider: OidcProvider, settings: Any) -> None:
    settings.EGRESS_ALLOW = [oidc_provider.netloc]
    options = ["--environment", "development", "--client-id", "abc"]
    api = added(run("add", "our-login", "--discover", oidc_provider.issuer, *options))
    assert (api.slug, api.name) == ("our-login", "Our Login")
    assert api.api_config["oauth2"]["token_url"] == f"{oidc_provider.issuer}/token/"
    assert api.api_config["oauth2"]["issuer"] == oidc_provider.issuer
    named_by_host = added(run("add", "--discover", oidc_provider.issuer, *options))
    assert named_by_host.slug == "127-0-0-1"
    with pytest.raises(CommandError, match="uses http"):
        run("add", "--discover", oidc_provider.issuer)


def test_a_definition_that_names_its_discovery_document_is_completed(
    oidc_provider: OidcProvider, settings: Any
) -> None:
    settings.EGRESS_ALLOW = [oidc_provider.netloc]
    catalogue.seed()
    entry = CatalogueEntry.objects.get(slug="globus")
    entry.api_config["oauth2"]["discovery_url"] = f"{oidc_provider.issuer}/.well-known/openid-configuration"
    entry.api_config["base_url"] = "http://127.0.0.1:1"
    entry.save()
    api = added(run("add", "globus", "--environment", "development"))
    assert api.api_config["base_url"] == "http://127.0.0.1:1"
    assert api.api_config["oauth2"]["token_url"] == f"{oidc_provider.issuer}/token/"
    assert api.api_config["oauth2"]["scopes"] == ["openid", "profile", "email"]


def test_discovery_goes_through_the_guard(oidc_provider: OidcProvider) -> None:
    with pytest.raises(CommandError, match="is refused"):
        run("add", "--discover", oidc_provider.issuer)
