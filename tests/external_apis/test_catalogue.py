"""The shipped provider definitions, and the catalogue's rows made of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from external_apis import catalogue
from external_apis.api_config import parse, secret_values
from external_apis.errors import InvalidConfiguration
from external_apis.models.catalogue import CatalogueEntry
from external_apis.models.providers import Category, ExternalApi

PRESETS = catalogue.presets()
SHIPPED = catalogue.shipped()
ENTRY = """
[acme]
name = "Acme"
provider = "acme"
docs_url = "https://acme.example/docs"

[acme.api_config]
base_url = "https://api.acme.example"
auth_type = "bearer"
"""


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


_ADDITIONS = ("request_encoding", "response_rules", "test_path", "url_variables")


def _beyond_additions(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _ADDITIONS}


@pytest.mark.parametrize("slug", PRESETS)
def test_every_preset_makes_a_production_provider_without_secrets(slug: str) -> None:
    preset = PRESETS[slug]
    config = parse(preset.api_config, environment="production")
    assert secret_values(config) == {}
    ExternalApi(
        name=preset.name,
        slug=preset.slug,
        category=preset.category,
        provider=preset.provider,
        api_config=dict(preset.api_config),
    ).clean_fields()


@pytest.mark.parametrize("slug", PRESETS)
def test_every_address_is_https_and_complete(slug: str) -> None:
    preset = PRESETS[slug]
    addresses = [text for text in _texts(dict(preset.api_config)) if "://" in text] + [preset.docs_url]
    for address in addresses:
        assert address.startswith("https://")
        for variable in preset.api_config.get("url_variables", ()):
            address = address.replace(f"{{{variable}}}", "x")  # noqa: PLW2901
        assert not re.search(r"[{}<>$]|example|yourdomain|localhost", address), "a template or a placeholder"
    assert not preset.api_config["base_url"].endswith("/"), "paths are appended and begin with a slash themselves"


def test_a_version_header_has_a_version_to_carry() -> None:
    for preset in PRESETS.values():
        if "api_version_header" in preset.api_config:
            assert preset.api_config.get("api_version"), preset.slug


def test_all_categories_are_served() -> None:
    counts = Counter(preset.category for preset in PRESETS.values())
    assert set(counts) == set(Category.values)
    assert min(counts.values()) >= 4
    assert len(PRESETS) >= 48


def test_all_auth_types_with_a_public_example_are_used() -> None:
    used = {preset.api_config["auth_type"] for preset in PRESETS.values()}
    assert used == {"oauth2", "oauth1", "client_credentials", "api_key", "basic", "bearer", "aws_sigv4", "none"}


def test_facebook_has_the_seeds_facts() -> None:
    preset = PRESETS["facebook"]
    assert (preset.name, preset.category, preset.provider) == ("Facebook Graph API", "social", "meta")
    assert _beyond_additions(dict(preset.api_config)) == {
        "base_url": "https://graph.facebook.com/v18.0",
        "api_version": "v18.0",
        "auth_type": "oauth2",
        "oauth2": {
            "authorization_url": "https://www.facebook.com/v18.0/dialog/oauth",
            "token_url": "https://graph.facebook.com/v18.0/oauth/access_token",
            "scopes": ["pages_show_list", "pages_manage_posts", "instagram_basic"],
            "default_life_seconds": 60 * 24 * 3600,
        },
        "rate_limit": {"requests_per_hour": 200},
    }


def test_stripe_has_the_seeds_facts_and_posts_forms() -> None:
    preset = PRESETS["stripe"]
    assert (preset.name, preset.category, preset.provider) == ("Stripe Payment Gateway", "payment", "stripe")
    assert preset.api_config["request_encoding"] == "form"
    assert _beyond_additions(dict(preset.api_config)) == {
        "base_url": "https://api.stripe.com/v1",
        "api_version": "2024-01-01",
        "auth_type": "bearer",
        "api_key": {"header_name": "Authorization", "key_prefix": "Bearer "},
        "rate_limit": {"requests_per_second": 100},
        "timeout_ms": 30000,
        "retry_config": {"max_retries": 3, "backoff_ms": 1000},
    }


def test_twilio_has_the_seeds_facts_and_posts_forms() -> None:
    preset = PRESETS["twilio"]
    assert (preset.name, preset.category, preset.provider) == ("Twilio SMS Service", "sms", "twilio")
    assert preset.api_config["request_encoding"] == "form"
    assert _beyond_additions(dict(preset.api_config)) == {
        "base_url": "https://api.twilio.com/2010-04-01",
        "api_version": "2010-04-01",
        "auth_type": "basic",
        "api_key": {"header_name": "Authorization", "key_prefix": "Basic "},
        "rate_limit": {"requests_per_second": 10},
    }


def test_sendgrid_has_the_seeds_facts() -> None:
    preset = PRESETS["sendgrid"]
    assert (preset.name, preset.category) == ("SendGrid Email", "email")
    assert _beyond_additions(dict(preset.api_config)) == {
        "base_url": "https://api.sendgrid.com/v3",
        "auth_type": "bearer",
        "api_key": {"header_name": "Authorization", "key_prefix": "Bearer "},
    }


def test_datadog_sends_several_named_secrets() -> None:
    expected = parse(PRESETS["datadog"].api_config).credentials_expected()
    assert expected == {"api_key", "application_key"}


@pytest.mark.parametrize(
    ("file_name", "text", "problem"),
    [
        ("other.toml", "[acme", "other.toml: is not valid TOML"),
        ("other.toml", "[acme]\n[acme]\n", "other.toml: is not valid TOML"),
        ("other.toml", "acme = 1", "other.toml: acme: is not a table"),
        ("games.toml", ENTRY, "games.toml: games is not a category; these are: social, payment"),
        ("other.toml", ENTRY.replace("[acme", "['Ac me'"), "Ac me: preset.slug: "),
        ("other.toml", ENTRY.replace('name = "Acme"', 'nmae = "Acme"'), "acme: preset.name: .*preset.nmae: "),
        ("other.toml", ENTRY.replace("https://acme", "http://acme"), "acme: preset.docs_url: "),
        ("other.toml", ENTRY + 'auth_tpye = "x"', "other.toml: acme: .*api_config.auth_tpye: "),
        ("other.toml", ENTRY.replace("https://api", "http://api"), "acme: .*api_config.base_url: uses http"),
        ("other.toml", ENTRY + 'api_key.key = "hunter2"', "acme: holds a secret at api_config.api_key.key"),
    ],
)
def test_a_broken_file_is_refused_with_file_preset_and_field(
    tmp_path: Path, file_name: str, text: str, problem: str
) -> None:
    (tmp_path / file_name).write_text(text)
    with pytest.raises(InvalidConfiguration, match=problem) as caught:
        catalogue.load(tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('ACME_KEY = "password"', "env names password, which bearer does not use"),
        ('ACME_ID = "oauth2.client_id"', "env names oauth2.client_id, which bearer does not use"),
        ('acme = "access_token"', "preset.env.acme"),
        ("ACME_KEY = 7", "preset.env.ACME_KEY"),
        ('ACME_KEY = "../access_token"', "preset.env.ACME_KEY"),
    ],
)
def test_a_variable_without_a_place_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "other.toml").write_text(ENTRY.replace("[acme.api_config]", f"env.{line}\n[acme.api_config]"))
    with pytest.raises(InvalidConfiguration, match=problem):
        catalogue.load(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_bytes(b"\xff\xfe[acme]")
    with pytest.raises(InvalidConfiguration, match=r"other\.toml: is not valid TOML"):
        catalogue.load(tmp_path)


def test_one_slug_in_two_categories_is_refused(tmp_path: Path) -> None:
    (tmp_path / "crm.toml").write_text(ENTRY)
    (tmp_path / "other.toml").write_text(ENTRY)
    with pytest.raises(InvalidConfiguration, match=r"other\.toml: acme is defined in crm.toml too"):
        catalogue.load(tmp_path)


@pytest.mark.django_db
def test_seeding_twice_changes_nothing() -> None:
    assert catalogue.seed() == catalogue.SeedResult(created=len(SHIPPED), updated=0, unchanged=0)
    before = list(CatalogueEntry.objects.values())
    with CaptureQueriesContext(connection) as queries:
        assert catalogue.seed() == catalogue.SeedResult(created=0, updated=0, unchanged=len(SHIPPED))
    assert len(queries) == 1
    assert list(CatalogueEntry.objects.values()) == before


@pytest.mark.django_db
def test_seeding_brings_an_older_release_up_to_date_and_keeps_operators_rows() -> None:
    catalogue.seed()
    CatalogueEntry.objects.filter(slug="stripe").update(api_config={}, name="Old")
    CatalogueEntry.objects.filter(slug="twilio").delete()
    CatalogueEntry.objects.create(slug="own", name="Own", category="other", provider="us", api_config={"a": 1})
    before = CatalogueEntry.objects.get(slug="stripe")

    assert catalogue.seed() == catalogue.SeedResult(created=1, updated=1, unchanged=len(SHIPPED) - 2)

    stripe = CatalogueEntry.objects.get(slug="stripe")
    assert (stripe.name, stripe.api_config) == ("Stripe Payment Gateway", PRESETS["stripe"].api_config)
    assert stripe.created_at == before.created_at
    assert stripe.updated_at > before.updated_at
    assert CatalogueEntry.objects.get(slug="own").api_config == {"a": 1}


@pytest.mark.django_db
def test_find_prefers_the_row_and_falls_back_to_the_shipped_preset() -> None:
    assert catalogue.find("stripe") == PRESETS["stripe"]
    CatalogueEntry.objects.create(slug="stripe", name="Ours", category="payment", provider="us", api_config={"a": 1})
    found = catalogue.find("stripe")
    assert found is not None
    assert (found.name, found.api_config) == ("Ours", {"a": 1})
    assert catalogue.find("no-such-provider") is None


@pytest.mark.django_db
def test_what_find_returns_is_the_callers_own() -> None:
    """A secret that a caller fills in must not reach the next caller."""
    found = catalogue.find("facebook")
    assert found is not None
    found.api_config["oauth2"]["client_id"] = "mine"
    assert "client_id" not in PRESETS["facebook"].api_config["oauth2"]
    assert "client_id" not in catalogue.presets()["facebook"].api_config["oauth2"]


@pytest.mark.django_db
def test_the_command_prints_plain_lines_into_a_pipe() -> None:
    out = StringIO()
    call_command("seed_providers", stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[-1] == f"{len(SHIPPED)} created, 0 updated, 0 unchanged"
    assert sum(int(line.split("\t")[1]) for line in lines[:-1]) == len(SHIPPED)


@pytest.mark.django_db
def test_the_command_draws_a_table_on_a_terminal() -> None:
    out = Terminal()
    call_command("seed_providers", stdout=out)
    text = out.getvalue()
    assert "definitions" in text
    assert all(category in text for category in Category.values)
    assert f"{len(SHIPPED)} created" in text


@pytest.mark.django_db
def test_the_command_prints_json() -> None:
    out = StringIO()
    call_command("seed_providers", "--json", stdout=out)
    report = json.loads(out.getvalue())
    assert (report["created"], report["updated"], report["unchanged"]) == (len(SHIPPED), 0, 0)
    assert set(report["by_category"]) == set(Category.values)
