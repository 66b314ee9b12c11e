"""For whom an imported row is, and of which provider: never of somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connections.models import ExternalApiConnection
from external_apis import changes
from external_apis.models import ExternalApi
from tests.connections.imports.social_platform_files import FACEBOOK, failed_rows, run, write
from tests.factories import make_partner, make_provider, make_tenant, make_user

pytestmark = pytest.mark.django_db


def test_an_account_of_another_tenant_than_its_platform_fails(tmp_path: Path) -> None:
    for slug in ("a", "b"):
        make_tenant(slug)
    rows = [{"id": f"of-{slug}", "access_token": f"t-{slug}", "sales_channel_id": slug} for slug in ("a", "b", None)]
    answer = run(*write(tmp_path, *rows, platforms=[{**FACEBOOK, "sales_channel_id": "a"}]), "--apply")
    assert answer["accounts"] == {"migrated": 1, "recognised": 0, "skipped": 0, "failed": 2}
    told = failed_rows(answer)
    assert told.keys() == {"of-b", "of-None"}
    assert {row["reason"] for row in told.values()} == {"of another tenant than its platform"}
    assert ExternalApiConnection.objects.get().tenant == ExternalApi.objects.get().tenant


def test_a_partner_is_its_tenants_own(tmp_path: Path) -> None:
    partners = {slug: make_partner(make_tenant(slug), "shop") for slug in ("a", "b", "c")}
    rows = [
        {"id": f"of-{slug}", "access_token": f"t-{slug}", "sales_channel_id": slug, "partner_id": "shop"}
        for slug in ("c", "b", "a", None)
    ]
    answer = run(*write(tmp_path, *rows), "--apply")
    assert {row.tenant: row.partner for row in ExternalApiConnection.objects.all()} == {
        partner.tenant: partner for partner in partners.values()
    }
    assert failed_rows(answer)["of-None"]["reason"] == "of a tenant or partner that is not here"


def test_an_address_of_two_users_is_nobodys(tmp_path: Path) -> None:
    for name, email in (("one", "both@example.com"), ("two", "both@example.com"), ("three", "own@example.com")):
        make_user(name, email=email)
    rows = [
        {"id": "both", "access_token": "t1", "user_email": "both@example.com"},
        {"id": "own", "access_token": "t2", "user_email": "own@example.com"},
        {"id": "named", "access_token": "t3", "user_email": "both@example.com", "user_id": "two"},
    ]
    answer = run(*write(tmp_path, *rows), "--apply")
    found = {row.connection_name: row.user and row.user.user.username for row in ExternalApiConnection.objects.all()}
    assert found == {"both": None, "own": "three", "named": "two"}
    assert answer["notes"]["of a user who is not here: imported for everybody who may use the provider"] == 1


def test_whoever_is_called_as_anothers_address_gets_nothing_of_theirs(tmp_path: Path) -> None:
    """A name is no address: whoever made a user may have chosen it freely. In both orders of the users."""
    for name, email in (("early", "early@example.com"), ("early@example.com", "x@example.com")):
        make_user(name, email=email)
    for name, email in (("late@example.com", "y@example.com"), ("late", "late@example.com"), ("anna", "anna@x.com")):
        make_user(name, email=email)
    rows = {
        "of-early": {"user_email": "early@example.com"},
        "of-late": {"user_email": "late@example.com"},
        "of-anna": {"user_email": "Anna@X.com"},
        "mapped": {"user_email": "old@example.com"},
        "by-name": {"user_id": "anna"},
        "by-address": {"user_id": "ANNA@x.com"},
        "name-and-address-1": {"user_id": "early@example.com"},
        "name-and-address-2": {"user_id": "late@example.com"},
        "no-address": {"user_email": "anna"},
    }
    written = [{"id": key, "access_token": key, **row} for key, row in rows.items()]
    answer = run(*write(tmp_path, *written), "--map", "old@example.com=anna", "--apply")
    found = {row.connection_name: row.user and row.user.user.username for row in ExternalApiConnection.objects.all()}
    assert found == {
        "of-early": "early",
        "of-late": "late",
        **dict.fromkeys(("of-anna", "mapped", "by-name", "by-address"), "anna"),
        **dict.fromkeys(("name-and-address-1", "name-and-address-2", "no-address")),
    }
    assert answer["notes"]["of a user who is not here: imported for everybody who may use the provider"] == 3


@pytest.mark.parametrize("other", [{"environment": "staging"}, {"is_sandbox": True}])
def test_a_provider_for_trying_things_out_is_not_taken(tmp_path: Path, other: dict[str, Any]) -> None:
    trial = make_provider(slug="facebook", **other)
    answer = run(*write(tmp_path, {"id": "a", "access_token": "t"}), "--apply")
    assert answer["platforms"]["migrated"] == 1
    api = ExternalApiConnection.objects.get().external_api
    assert (api.slug, api.environment, api.is_sandbox) == ("facebook", "production", False)
    assert api != trial


def test_a_platform_that_was_switched_off_is_inactive(tmp_path: Path) -> None:
    run(*write(tmp_path, platforms=[{**FACEBOOK, "is_active": False, "status": "active"}]), "--apply")
    assert ExternalApi.objects.get().status == "inactive"


def test_who_keeps_a_provider_hears_of_its_new_connections(
    tmp_path: Path, django_capture_on_commit_callbacks: Any
) -> None:
    run(*write(tmp_path), "--apply")
    heard: list[Any] = []
    watch = changes.Watch(heard.append, lambda: True)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            run(*write(tmp_path, {"id": "a", "access_token": "t"}), "--apply")
    finally:
        watch.close()
    assert {ExternalApi.objects.get().pk} in [set(names) for names in heard]


@pytest.mark.parametrize("name", ["none", "undefined", "NULL"])
def test_a_tenant_that_is_called_nothing_is_no_ones_everybody(tmp_path: Path, name: str) -> None:
    row = {"id": "a", "access_token": "t", "sales_channel_id": name}
    run(*write(tmp_path, row), "--apply")
    assert not ExternalApiConnection.objects.exists()
    acme = make_tenant("acme")
    run(*write(tmp_path, row), "--apply", "--map", f"{name}=acme")
    assert ExternalApiConnection.objects.get().tenant == acme


def test_an_address_letter_for_letter_goes_before_the_same_in_another_case(tmp_path: Path) -> None:
    one, _ = make_user("one", email="Ada@example.com"), make_user("two", email="ada@example.com")
    run(*write(tmp_path, {"id": "a", "access_token": "t", "user_email": "Ada@example.com"}), "--apply")
    assert ExternalApiConnection.objects.get().user == one.external_apis_account
