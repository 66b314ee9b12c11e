"""Connections over REST: seed 000's routes and shapes."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connections.models import ExternalApiConnection, ExternalApiCredential
from connections.sandbox import credentials as sandbox_credentials
from external_apis import crypto, valkey
from tests.factories import make_connection, make_many_connections, make_partner, make_provider, make_tenant, make_user
from tests.rest import PROVIDERS, connections_of, error_of, signed_in, with_key
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db

TOKEN = "EAAB-a-long-access-token-of-facebook-0001"
FIELDS = {"id", "connection_name", "slug", "status", "last_used_at", "expires_at", "created_at", "updated_at"}


def test_create_with_the_seeds_plain_keys() -> None:
    api = make_provider(
        slug="facebook",
        api_config={
            "auth_type": "oauth2",
            "oauth2": {
                "authorization_url": "https://www.facebook.com/v18.0/dialog/oauth",
                "token_url": "https://graph.facebook.com/v18.0/oauth/access_token",
            },
        },
    )
    body = {
        "connection_name": "My Facebook Page",
        "credentials": {
            "access_token": TOKEN,
            "token_type": "bearer",
            "expires_at": "2024-01-15T10:30:00Z",
            "scopes": ["pages_show_list"],
            "additional_data": {"page": "secret too"},
        },
        "provider_data": {"page_id": "1234", "page_name": "My Page"},
    }
    response = with_key().send("post", connections_of(api), body)
    answer = response.json()
    assert response.status_code == 201, answer
    assert response["Location"] == f"{connections_of(api)}/{answer['id']}"
    assert (answer["slug"], answer["status"]) == ("default", "active")
    assert answer["provider_data"] == body["provider_data"]
    shown = answer["credentials"]
    assert shown["expires_at"] == answer["expires_at"] == "2024-01-15T10:30:00.000Z"
    assert (shown["token_type"], shown["scopes"]) == ("bearer", ["pages_show_list"])
    assert set(shown["access_token_encrypted"]) == {"keyVersion", "fingerprint", "hint"}
    assert set(shown["additional_data_encrypted"]) == {"keyVersion", "fingerprint", "hint"}
    assert TOKEN.encode() not in response.content
    assert b"secret too" not in response.content
    assert with_key().get(response["Location"]).json() == answer


def test_credentials_that_the_auth_type_does_not_use_are_named() -> None:
    api = make_provider()
    body = {"connection_name": "x", "credentials": {"pasword": TOKEN}}
    response = with_key().send("post", connections_of(api), body)
    assert error_of(response) == (400, "VALIDATION_ERROR")
    assert response.json()["error"]["details"]["errors"][0]["path"] == "credentials.pasword"
    assert TOKEN.encode() not in response.content


def test_list_is_a_bare_array_newest_first() -> None:
    api = make_provider()
    made = [make_connection(api).pk for _ in range(3)]
    make_connection(make_provider())
    response = with_key().get(f"{connections_of(api)}?limit=2")
    assert [item["id"] for item in response.json()] == made[:0:-1]
    assert response["X-Total-Count"] == "3"
    assert set(response.json()[0]) >= FIELDS
    assert "credentials" not in response.json()[0]


def test_filters() -> None:
    api = make_provider()
    make_connection(api, slug="one", connection_name="Berlin 100%")
    row = make_connection(api, slug="two", connection_name="Paris")
    with_key().send("patch", f"{connections_of(api)}/{row.pk}", {"status": "revoked"})

    def slugs(query: str) -> list[str]:
        return [item["slug"] for item in with_key().get(f"{connections_of(api)}?{query}").json()]

    assert slugs("status=revoked") == ["two"]
    assert slugs("slug=one") == ["one"]
    assert slugs("search=PAR") == ["two"]
    assert slugs("search=100%25") == ["one"]
    assert error_of(with_key().get(f"{connections_of(api)}?status=gone")) == (400, "VALIDATION_ERROR")


def test_lists_decrypt_nothing_and_cost_the_same_for_any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    api = make_provider(api_config={"api_key": {"key": "a key of the provider"}})
    client = signed_in(make_user(is_superuser=True))
    opened: list[str] = []
    really_open = crypto.Key.open

    def counted(self: crypto.Key, sealed: crypto.Sealed, identity: str) -> bytes:
        opened.append(identity)
        return really_open(self, sealed, identity)

    make_many_connections(api, 5)
    monkeypatch.setattr(crypto.Key, "open", counted)
    counts = []
    for size in (4, 200):
        opened.clear()  # writing may open the key that it seals under
        with CaptureQueriesContext(connection) as queries:
            assert len(client.get(f"{connections_of(api)}?limit={size}").json()) == size
        counts.append(len(queries))
        assert opened == []
        make_many_connections(api, 250)
    opened.clear()
    client.get(PROVIDERS)
    assert opened == []
    # Session, user, provider, page; the total is counted once and then comes from Valkey.
    assert counts == [5, 4]
    # The detail does open, so the count above was able to see it.
    client.get(f"{connections_of(api)}/{client.get(connections_of(api)).json()[0]['id']}")
    assert opened


def test_detail_queries(django_assert_num_queries: Any) -> None:
    row = make_connection()
    with django_assert_num_queries(2):
        assert with_key().get(f"{connections_of(row.external_api)}/{row.pk}").status_code == 200


def test_a_staff_user_of_a_tenant_costs_as_few_queries(django_assert_num_queries: Any) -> None:
    tenant = make_tenant()
    row = make_connection(tenant=tenant)
    client = signed_in(make_user(tenant=tenant, permissions=["connections.view_externalapiconnection"]))
    # Session, user with account, permissions, provider, page (or connection).
    with django_assert_num_queries(5):
        assert len(client.get(connections_of(row.external_api)).json()) == 1
    with django_assert_num_queries(5):
        assert client.get(f"{connections_of(row.external_api)}/{row.pk}").status_code == 200


def test_slugs_stand_for_ids() -> None:
    row = make_connection(make_provider(slug="stripe"))
    assert with_key().get(f"{PROVIDERS}/stripe/connections/default").json()["id"] == row.pk
    make_connection(row.external_api, slug="default", tenant=make_tenant())
    assert error_of(with_key().get(f"{PROVIDERS}/stripe/connections/default")) == (409, "CONFLICT")
    assert with_key().get(f"{PROVIDERS}/stripe/connections/{row.pk}").json()["id"] == row.pk


def test_a_connection_is_found_under_its_own_provider_only() -> None:
    row = make_connection()
    assert error_of(with_key().get(f"{connections_of(make_provider())}/{row.pk}")) == (404, "NOT_FOUND")


def test_patch_keeps_credentials_that_are_not_named() -> None:
    api = make_provider(api_config={"auth_type": "basic"})
    row = make_connection(api, credentials={"username": "alice", "password": "the password of alice"})
    url = f"{connections_of(api)}/{row.pk}"
    answer = with_key().send("patch", url, {"note": "Ask Bob", "credentials": {"username": "bob"}}).json()
    assert answer["note"] == "Ask Bob"
    stored = ExternalApiCredential.objects.get(pk=row.pk).secrets
    assert dict(stored) == {"username": "bob", "password": "the password of alice"}
    answer = with_key().send("patch", url, {"credentials": {"password": None}}).json()
    assert "password_encrypted" not in answer["credentials"]


def test_partner_and_tenant_are_shown() -> None:
    tenant = make_tenant()
    partner = make_partner(tenant)
    body = {"connection_name": "x", "sales_channel_id": tenant.pk, "partner_id": partner.pk}
    answer = with_key().send("post", connections_of(make_provider()), body).json()
    assert (answer["sales_channel_id"], answer["partner_id"]) == (tenant.pk, partner.pk)


def test_delete_is_soft() -> None:
    row = make_connection()
    url = f"{connections_of(row.external_api)}/{row.pk}"
    assert with_key().delete(url).status_code == 204
    assert error_of(with_key().get(url)) == (404, "NOT_FOUND")
    assert error_of(with_key().send("post", f"{url}/test")) == (404, "NOT_FOUND")
    assert with_key().get(connections_of(row.external_api)).json() == []
    assert ExternalApiConnection.objects.get(pk=row.pk).is_deleted


def test_connections_of_a_deleted_provider_are_gone() -> None:
    row = make_connection()
    with_key().delete(f"{PROVIDERS}/{row.external_api_id}")
    assert with_key().get(connections_of(row.external_api)).status_code == 404
    assert with_key().get(f"{connections_of(row.external_api)}/{row.pk}").status_code == 404


def test_rows_that_do_not_open_say_so_in_their_place() -> None:
    api = make_provider()
    good, foreign, moved, cut, bare = (make_connection(api, slug=slug) for slug in ("a", "b", "c", "d", "e"))
    sealed = ExternalApiCredential.objects.values_list("secrets", flat=True).get(pk=good.pk)
    stranger = crypto.Keyring({"gone": b"k" * 32}).seal(b"{}", "anywhere")
    with connection.cursor() as cursor:
        for row, value in ((foreign, stranger), (moved, sealed), (cut, sealed[:-30])):
            cursor.execute(
                "UPDATE connections_externalapicredential SET secrets = %s WHERE connection_id = %s",
                [bytes(value), row.pk],
            )
        cursor.execute("DELETE FROM connections_externalapicredential WHERE connection_id = %s", [bare.pk])
    listed = {item["slug"]: item.get("error", {}).get("code") for item in with_key().get(connections_of(api)).json()}
    assert listed["a"] is None
    assert (listed["b"], listed["e"]) == ("UNKNOWN_ENCRYPTION_KEY", "MISSING_CREDENTIAL")
    details = {
        row.slug: with_key().get(f"{connections_of(api)}/{row.pk}").json().get("error", {}).get("code")
        for row in (good, foreign, moved, cut, bare)
    }
    assert details == {
        "a": None,
        "b": "UNKNOWN_ENCRYPTION_KEY",
        "c": "SEALED_VALUE_UNREADABLE",
        "d": "SEALED_VALUE_UNREADABLE",
        "e": "MISSING_CREDENTIAL",
    }
    response = with_key().send("post", f"{connections_of(api)}/{moved.pk}/test")
    assert (response.status_code, response.json()["ok"]) == (200, False)


@pytest.mark.django_db(transaction=True)
class TestProbe:
    """``POST …/test`` really calls: here the sandbox provider."""

    @pytest.fixture
    def api(self, sandbox: Sandbox, settings: Any) -> Any:
        settings.EGRESS_ALLOW = [sandbox.url.removeprefix("http://")]
        config = {"base_url": f"{sandbox.url}/auth/bearer", "test_path": "/me"}
        return make_provider(environment="development", is_sandbox=True, api_config=config)

    def test_good_credentials(self, api: Any) -> None:
        row = make_connection(api, credentials={"access_token": sandbox_credentials.BEARER_TOKEN})
        response = with_key().send("post", f"{connections_of(api)}/{row.pk}/test")
        answer = response.json()
        assert response.status_code == 200
        assert (answer["ok"], answer["status"]) == (True, 200)
        assert set(answer) == {"ok", "status", "message", "duration_ms"}

    def test_bad_credentials(self, api: Any) -> None:
        row = make_connection(api, credentials={"access_token": "not the sandbox's token"})
        response = with_key().send("post", f"{connections_of(api)}/{row.pk}/test")
        assert response.status_code == 200
        assert (response.json()["ok"], response.json()["status"]) == (False, 401)
        assert b"not the sandbox" not in response.content


def test_total_keys_of_valkey_hold_no_query_in_clear() -> None:
    api = make_provider()
    make_many_connections(api, 2)
    with_key().get(f"{connections_of(api)}?limit=1&search=Many")
    (key,) = valkey.client().scan_iter(f"{valkey.PREFIX}total:*")
    assert b"Many" not in key
