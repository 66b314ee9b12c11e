"""Providers over REST: seed 000's routes and shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connections.models import ExternalApiCredential
from external_apis import valkey
from external_apis.crypto import Keyring, Sealed
from external_apis.models import ExternalApi
from tests import seed_bodies
from tests.factories import MANAGER, make_connection, make_provider, make_tenant, make_user
from tests.rest import PROVIDERS, connections_of, error_of, signed_in, with_key

pytestmark = pytest.mark.django_db

FIELDS = {
    "id", "name", "slug", "category", "provider", "status", "environment", "is_sandbox", "auth_type",
    "sales_channel_id", "partner_id", "connections_count", "created_at", "updated_at",
}  # fmt: skip


@pytest.mark.parametrize("body", seed_bodies.ALL, ids=lambda body: body["slug"])
def test_seed_bodies_create_providers(body: dict[str, Any]) -> None:
    response = with_key().send("post", PROVIDERS, body)
    answer = response.json()
    assert response.status_code == 201, answer
    assert response["Location"] == f"{PROVIDERS}/{answer['id']}"
    assert answer["id"] == body.get("id", answer["id"])
    assert answer["environment"] == "production"
    assert answer["created_by"] == "key:ADMIN_API_KEY"
    assert answer["api_config"]["base_url"] == body["api_config"]["base_url"]
    assert answer["api_config"]["auth_type"] == body["api_config"]["auth_type"]
    assert with_key().get(response["Location"]).json() == answer | {"updated_at": answer["updated_at"]}


def test_omitted_fields_of_the_seeds_short_body() -> None:
    answer = with_key().send("post", PROVIDERS, seed_bodies.SENDGRID).json()
    assert (answer["provider"], answer["status"], answer["is_sandbox"]) == ("sendgrid", "active", False)
    assert answer["api_config"]["request_encoding"] == "json"
    assert with_key().send("post", PROVIDERS, seed_bodies.STRIPE).json()["api_config"]["request_encoding"] == "form"


def test_secrets_are_shown_as_facts_only() -> None:
    answer = with_key().send("post", PROVIDERS, seed_bodies.FACEBOOK)
    shown = answer.json()["api_config"]["oauth2"]["client_secret_encrypted"]
    assert set(shown) == {"keyVersion", "fingerprint", "hint"}
    assert "client_secret" not in answer.json()["api_config"]["oauth2"]
    for secret in seed_bodies.SECRETS:
        assert secret.encode() not in answer.content


def test_list_is_a_bare_array_with_a_total() -> None:
    for number in range(3):
        make_provider(slug=f"p{number}")
    response = with_key().get(f"{PROVIDERS}?limit=2&offset=1")
    assert [item["slug"] for item in response.json()] == ["p1", "p2"]
    assert response["X-Total-Count"] == "3"
    assert set(response.json()[0]) >= FIELDS


def test_total_is_kept_for_five_seconds() -> None:
    for number in range(3):
        make_provider(slug=f"p{number}")
    client = with_key()
    assert client.get(f"{PROVIDERS}?limit=2")["X-Total-Count"] == "3"
    make_provider(slug="p3")
    assert client.get(f"{PROVIDERS}?limit=2")["X-Total-Count"] == "3"
    # The last page knows better, and another filter is another number.
    assert client.get(f"{PROVIDERS}?limit=3&offset=2")["X-Total-Count"] == "4"
    assert client.get(f"{PROVIDERS}?limit=2&category=other")["X-Total-Count"] == "4"
    assert client.get(f"{PROVIDERS}?offset=10")["X-Total-Count"] == "3"
    keys = list(valkey.client().scan_iter(f"{valkey.PREFIX}total:*"))
    assert len(keys) == 2
    assert all(0 < valkey.client().pttl(key) <= 5_000 for key in keys)


def test_total_is_counted_when_valkey_is_away(settings: Any) -> None:
    make_provider()
    make_provider()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = with_key().get(f"{PROVIDERS}?limit=1")
    assert (response.status_code, response["X-Total-Count"]) == (200, "2")


def test_filters() -> None:
    make_provider(slug="acme-mail", category="email", environment="staging")
    make_provider(slug="acme-pay", category="payment", status="inactive")
    client = with_key()

    def slugs(query: str) -> list[str]:
        return [item["slug"] for item in client.get(f"{PROVIDERS}?{query}").json()]

    assert slugs("category=email") == ["acme-mail"]
    assert slugs("status=inactive") == ["acme-pay"]
    assert slugs("environment=staging") == ["acme-mail"]
    assert slugs("slug=acme-pay") == ["acme-pay"]
    assert slugs("search=ACME") == ["acme-mail", "acme-pay"]
    assert slugs("search=%25") == []
    assert slugs("is_sandbox=true") == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("offset=-1", "offset"),
        ("offset=99999999999999999999", "offset"),
        ("category=cooking", "category"),
        ("enviroment=production", "enviroment"),
    ],
)
def test_a_bad_query_is_named(query: str, name: str) -> None:
    response = with_key().get(f"{PROVIDERS}?{query}")
    assert error_of(response) == (400, "VALIDATION_ERROR")
    assert [error["path"] for error in response.json()["error"]["details"]["errors"]] == [name]


def test_list_costs_the_same_queries_for_any_number_of_rows() -> None:
    client = signed_in(make_user(is_superuser=True))
    counts = []
    for _ in range(2):
        for _ in range(3):
            api = make_provider()
            make_connection(api)
            make_connection(api)
        with CaptureQueriesContext(connection) as queries:
            response = client.get(f"{PROVIDERS}?limit=3")
        assert all(item["connections_count"] == 2 for item in response.json())
        counts.append(len(queries))
    # Session, user, page, counts of connections; the total is counted once and then comes from Valkey.
    assert counts == [5, 4]


def test_detail_queries(django_assert_num_queries: Any) -> None:
    api = make_provider()
    with django_assert_num_queries(2):
        with_key().get(f"{PROVIDERS}/{api.pk}")


def test_a_slug_stands_for_an_id() -> None:
    api = make_provider(slug="acme")
    assert with_key().get(f"{PROVIDERS}/acme").json()["id"] == api.pk


def test_patch_merges_and_keeps_secrets() -> None:
    api = make_provider(api_config={"api_key": {"key": "a key that stays where it is"}, "timeout_ms": 1000})
    client, url = with_key(), f"{PROVIDERS}/{api.pk}"
    shown = client.get(url).json()["api_config"]["api_key"]["key_encrypted"]
    patch = {"name": "Renamed", "api_config": {"timeout_ms": None, "api_key": {"key_encrypted": shown}}}
    answer = client.send("patch", url, patch).json()
    assert answer["name"] == "Renamed"
    assert "timeout_ms" not in answer["api_config"]
    assert answer["api_config"]["api_key"]["key_encrypted"] == shown
    assert dict(ExternalApi.objects.get(pk=api.pk).secrets) == {"api_key.key": "a key that stays where it is"}


def test_patch_refuses_facts_that_are_not_stored() -> None:
    api = make_provider(api_config={"api_key": {"key": "one"}})
    made_up = {"keyVersion": "x", "fingerprint": "0" * 16, "hint": ""}
    body = {"api_config": {"api_key": {"key_encrypted": made_up}}}
    assert error_of(with_key().send("patch", f"{PROVIDERS}/{api.pk}", body)) == (400, "VALIDATION_ERROR")


def test_errors_carry_the_fields_path() -> None:
    body = seed_bodies.FACEBOOK | {"api_config": {**seed_bodies.FACEBOOK["api_config"], "base_url": "http://x.example"}}
    response = with_key().send("post", PROVIDERS, body)
    assert error_of(response) == (400, "VALIDATION_ERROR")
    assert response.json()["error"]["details"]["errors"][0]["path"] == "api_config.base_url"
    body["api_config"] = {**seed_bodies.FACEBOOK["api_config"]}
    body["api_config"]["oauth2"] = {**body["api_config"]["oauth2"], "scopes": "one two"}
    response = with_key().send("post", PROVIDERS, body)
    assert response.json()["error"]["details"]["errors"][0]["path"] == "api_config.oauth2.scopes"


def test_a_second_live_provider_collides() -> None:
    client = with_key()
    assert client.send("post", PROVIDERS, seed_bodies.SENDGRID).status_code == 201
    assert error_of(client.send("post", PROVIDERS, seed_bodies.SENDGRID)) == (409, "CONFLICT")


def test_delete_is_soft() -> None:
    api = make_provider()
    client, url = with_key(), f"{PROVIDERS}/{api.pk}"
    response = client.delete(url)
    assert (response.status_code, response.content) == (204, b"")
    assert error_of(client.get(url)) == (404, "NOT_FOUND")
    assert client.get(PROVIDERS).json() == []
    assert ExternalApi.objects.get(pk=api.pk).is_deleted


def test_rows_that_do_not_open_say_so_in_their_place(settings: Any) -> None:
    good, foreign, moved, cut = (
        make_provider(slug=slug, api_config={"api_key": {"key": f"the key of {slug}"}})
        for slug in ("a-good", "b-foreign", "c-moved", "d-cut")
    )
    sealed = ExternalApi.objects.values_list("secrets", flat=True).get(pk=good.pk)
    stranger = Keyring({"gone": b"k" * 32}).seal(b"{}", "anywhere")
    for api, value in ((foreign, stranger), (moved, sealed), (cut, sealed[:20])):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE external_apis_externalapi SET secrets = %s WHERE id = %s", [bytes(value), api.pk])
    client = with_key()
    listed = {item["slug"]: item.get("error", {}).get("code") for item in client.get(PROVIDERS).json()}
    # A ciphertext that moved is noticed when it is opened, which a list never does.
    assert listed == {
        "a-good": None,
        "b-foreign": "UNKNOWN_ENCRYPTION_KEY",
        "c-moved": None,
        "d-cut": "SEALED_VALUE_UNREADABLE",
    }
    detail = {api.slug: client.get(f"{PROVIDERS}/{api.pk}") for api in (good, foreign, moved, cut)}
    assert {slug: response.json().get("error", {}).get("code") for slug, response in detail.items()} == {
        "a-good": None,
        "b-foreign": "UNKNOWN_ENCRYPTION_KEY",
        "c-moved": "SEALED_VALUE_UNREADABLE",
        "d-cut": "SEALED_VALUE_UNREADABLE",
    }
    assert "'gone'" in detail["b-foreign"].json()["error"]["message"]
    response = client.send("patch", f"{PROVIDERS}/{moved.pk}", {"api_config": {"timeout_ms": 5}})
    assert error_of(response) == (500, "SEALED_VALUE_UNREADABLE")


def test_connections_count_of_a_tenant_is_its_own() -> None:
    api, tenant = make_provider(), make_tenant()
    make_connection(api)
    make_connection(api, tenant=tenant)
    user = make_user(tenant=tenant, permissions=["external_apis.view_externalapi"])
    assert signed_in(user).get(f"{PROVIDERS}/{api.pk}").json()["connections_count"] == 1
    assert with_key().get(f"{PROVIDERS}/{api.pk}").json()["connections_count"] == 2


def test_an_inactive_provider_is_found_by_its_slug_and_switched_on_again() -> None:
    tenant = make_tenant()
    make_provider(slug="twice")
    api = make_provider(slug="twice", tenant=tenant)
    client = signed_in(make_user(tenant=tenant, permissions=MANAGER))
    for status in ("inactive", "active"):
        answer = client.send("patch", f"{PROVIDERS}/twice", {"status": status})
        assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (200, api.pk, status)
        assert client.get(f"{PROVIDERS}/twice").json()["id"] == api.pk
        assert client.get(f"{PROVIDERS}/twice/connections").status_code == 200


@pytest.mark.parametrize("damage", ["[]", "5", '{"api_key.key": 5}'])
@pytest.mark.parametrize("column", ["secret_fingerprints", "secret_hints"])
def test_damaged_notes_on_secrets_are_reported_in_their_place(column: str, damage: str) -> None:
    api = make_provider(api_config={"api_key": {"key": "swordfish-swordfish-swordfish"}})
    row = make_connection(api)
    ExternalApi.objects.update(**{column: json.loads(damage)})
    ExternalApiCredential.objects.update(**{column: json.loads(damage)})
    client = with_key()
    for path in (PROVIDERS, connections_of(api)):
        (item,) = client.get(path).json()
        assert item["error"]["code"] == "SEALED_VALUE_UNREADABLE"
    for path in (f"{PROVIDERS}/{api.pk}", f"{connections_of(api)}/{row.pk}"):
        assert client.get(path).json()["error"]["code"] == "SEALED_VALUE_UNREADABLE"
    answer = client.send("patch", f"{PROVIDERS}/{api.pk}", {"api_config": {"api_key": {"key": "new"}}})
    assert (answer.status_code, "error" in answer.json()) == (200, False)
    answer = client.send("patch", f"{connections_of(api)}/{row.pk}", {"credentials": {"access_token": "new"}})
    assert (answer.status_code, "error" in answer.json()) == (200, False)
    assert dict(ExternalApi.objects.get().secrets) == {"api_key.key": "new"}


def test_damaged_notes_do_not_let_unreadable_secrets_be_overwritten_unseen() -> None:
    api = make_provider(api_config={"api_key": {"key": "swordfish"}})
    ExternalApi.objects.update(secret_fingerprints=[], secrets=Sealed(b"\x01\x02"))
    answer = with_key().send("patch", f"{PROVIDERS}/{api.pk}", {"api_config": {"timeout_ms": 5}})
    assert error_of(answer) == (500, "SEALED_VALUE_UNREADABLE")


def test_a_stored_configuration_that_no_longer_fits_says_so_in_its_place() -> None:
    api = make_provider()
    ExternalApi.objects.update(api_config={**api.api_config, "base_url": "https://%00.com/x"})
    answer = with_key().get(f"{PROVIDERS}/{api.pk}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "VALIDATION_ERROR")
