"""'Add from catalogue': search, pick, and a form that is filled."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from external_apis import catalogue
from external_apis.models import CatalogueEntry
from tests.factories import make_user
from tests.oidc_provider import OidcProvider

pytestmark = pytest.mark.django_db

PROVIDERS = "/admin/external_apis/externalapi/"
ENTRIES = "/admin/external_apis/catalogueentry/"
VIEW = ("external_apis.view_externalapi", "external_apis.view_catalogueentry")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    catalogue.seed()


def signed_in(*permissions: str) -> Client:
    client = Client()
    client.force_login(make_user(permissions=permissions))
    return client


def test_from_the_list_of_providers_to_a_filled_form(django_assert_max_num_queries: Any) -> None:
    client = signed_in(*VIEW, "external_apis.add_externalapi")
    page = client.get(PROVIDERS).content.decode()
    assert "Add from catalogue" in page
    assert client.get(f"{PROVIDERS}add-from-catalogue/").url == ENTRIES  # type: ignore[attr-defined]
    with django_assert_max_num_queries(8):
        found = client.get(ENTRIES, {"q": "spotify"}).content.decode()
    assert f"{PROVIDERS}add/?preset=spotify" in found
    assert "Zoom" not in found
    form = client.get(f"{PROVIDERS}add/?preset=spotify").context["adminform"].form
    assert form["slug"].value() == "spotify"
    assert form["auth_type"].value() == "oauth2"
    assert form["oauth2.oauth2.token_url"].value() == "https://accounts.spotify.com/api/token"
    assert form["oauth2.oauth2.client_auth"].value() == "basic"


def test_who_may_not_add_has_no_button() -> None:
    client = signed_in(*VIEW)
    assert "Add from catalogue" not in client.get(PROVIDERS).content.decode()
    assert client.get(f"{PROVIDERS}add-from-catalogue/").status_code == 403


def test_a_definition_that_only_names_its_discovery_is_completed(oidc_provider: OidcProvider, settings: Any) -> None:
    settings.EGRESS_ALLOW = [oidc_provider.netloc]
    entry = CatalogueEntry.objects.get(slug="globus")
    entry.api_config["oauth2"]["discovery_url"] = f"{oidc_provider.issuer}/.well-known/openid-configuration"
    entry.save()
    client = signed_in(*VIEW, "external_apis.add_externalapi")
    form = client.get(f"{PROVIDERS}add/?preset=globus").context["adminform"].form
    assert form["oauth2.oauth2.authorization_url"].value() == f"{oidc_provider.issuer}/authorize/"
    assert form["oauth2.oauth2.issuer"].value() == oidc_provider.issuer

    settings.EGRESS_ALLOW = []
    page = client.get(f"{PROVIDERS}add/?preset=globus")
    assert "knows only where globus tells of itself" in page.content.decode()
    assert page.context["adminform"].form["oauth2.oauth2.token_url"].value() in (None, "")
