"""The front door: store a connection, find it again, open it, call through it."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import lookup, services
from connections.models import ExternalApiConnection, ExternalApiCredential
from connections.opening import check_usable
from connections.sandbox import definitions
from external_apis import providers
from external_apis.errors import (
    Conflict,
    ConnectionExpired,
    ConnectionInactive,
    ConnectionRevoked,
    InvalidInput,
    NotFound,
    Unreadable,
    UpstreamUnauthorized,
)
from external_apis.models import ExternalApi, Tenant
from external_apis.tenancy import Scope
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db

STRIPE: dict[str, Any] = {
    "name": "Stripe",
    "slug": "stripe",
    "category": "payment",
    "api_config": {"base_url": "https://api.stripe.com/v1", "auth_type": "bearer"},
}
OAUTH2: dict[str, Any] = {
    "name": "Facebook",
    "slug": "facebook",
    "category": "social",
    "api_config": {
        "base_url": "https://graph.facebook.com/v18.0",
        "auth_type": "oauth2",
        "oauth2": {"authorization_url": "https://a.example/auth", "token_url": "https://a.example/token"},
    },
}


@pytest.fixture
def stripe() -> ExternalApi:
    return services.create_external_api(STRIPE)


def connect(api: ExternalApi, **changes: Any) -> ExternalApiConnection:
    body = {"connection_name": "Production Stripe", "credentials": {"access_token": "sk-swordfish"}, **changes}
    return services.create_connection(api, body)


def tables() -> str:
    found = ""
    with database.cursor() as cursor:
        for table in database.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            found += repr(cursor.fetchall())
    return found


def test_a_connection_is_stored_sealed_and_opens_again(stripe: ExternalApi) -> None:
    credentials = {
        "access_token": "sk-swordfish",
        "token_type": "Bearer",
        "scopes": ["read"],
        "additional_data": {"pin": "swordfish"},
    }
    row = connect(stripe, provider_data={"account_id": "acct_1"}, credentials=credentials)
    assert "swordfish" not in tables()
    opened = services.get_connection("stripe/default")
    assert opened.id == row.pk
    assert opened.credentials["access_token"] == "sk-swordfish"
    assert opened.credentials["additional_data"] == '{"pin": "swordfish"}'
    assert (opened.provider_data, opened.scopes) == ({"account_id": "acct_1"}, ["read"])
    assert "swordfish" not in f"{opened} {opened!r} {vars(opened)}"
    with pytest.raises(TypeError):
        pickle.dumps(opened)


@pytest.mark.parametrize(
    ("credentials", "path"),
    [
        ({"acces_token": "x"}, "credentials.acces_token"),
        ({"username": "x"}, "credentials.username"),
        ({"access_token": 5}, "credentials.access_token"),
        ({"access_token": ""}, "credentials.access_token"),
        ({"access_token": "••••••••"}, "credentials.access_token"),
        ({"access_token": "x\0"}, "credentials.access_token"),
        ({"expires_at": "soon"}, "credentials.expires_at"),
        ({"expires_at": "2024-99-01T00:00:00Z"}, "credentials.expires_at"),
        ({"scopes": "read write"}, "credentials.scopes"),
        ({"additional_data": "x"}, "credentials.additional_data"),
    ],
)
def test_bad_credentials_are_refused_with_the_path(stripe: ExternalApi, credentials: Any, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        connect(stripe, credentials=credentials)
    assert path in [item["path"] for item in caught.value.details["errors"]]
    assert not ExternalApiConnection.objects.exists()


def test_references(stripe: ExternalApi) -> None:
    first = connect(stripe)
    assert services.get_connection(first.pk).id == first.pk
    assert services.get_connection("stripe").id == first.pk
    second = connect(stripe, connection_name="Second Account")
    assert (first.slug, second.slug) == ("default", "second-account")
    third = connect(stripe, connection_name="Second account!")
    assert third.slug == "second-account-2"
    assert services.get_connection("stripe/second-account").id == second.pk
    with pytest.raises(Conflict, match="name one of stripe/default, stripe/second-account"):
        services.get_connection("stripe")
    for missing in ("conn_none", "stripe/none", "stripe/", "stripe/a/b", "x" * 5000, "stripe/default' OR 1=1"):
        with pytest.raises(NotFound):
            services.get_connection(missing)
    with pytest.raises(NotFound, match=r"^Connection conn_none not found$"):
        services.get_connection("conn_none")
    with pytest.raises(Conflict, match="exists already"):
        connect(stripe, slug="default")


def test_a_tenants_own_goes_before_the_global_one_and_others_are_not_seen(stripe: ExternalApi) -> None:
    acme, other = Tenant.objects.create(slug="acme", name="A"), Tenant.objects.create(slug="other", name="O")
    everybody, acmes = connect(stripe), connect(stripe, sales_channel_id=acme.pk)
    assert acmes.slug == "default"
    assert services.get_connection("stripe", tenant=acme.pk).id == acmes.pk
    assert services.get_connection("stripe", tenant=other.pk).id == everybody.pk
    assert services.get_connection("stripe").id == everybody.pk
    services.delete_connection(everybody)
    with pytest.raises(NotFound):
        services.get_connection("stripe", tenant=other.pk)
    with pytest.raises(NotFound):
        services.create_connection(stripe, {"connection_name": "x", "sales_channel_id": acme.pk}, Scope(other.pk))


def test_at_most_two_queries(stripe: ExternalApi) -> None:
    row = connect(stripe)
    for reference, queries in ((row.pk, 1), ("stripe/default", 2), ("stripe", 2)):
        with CaptureQueriesContext(database) as captured:
            services.get_api_client(reference)
        assert len(captured) == queries, reference


def test_unusable_ones_are_refused_in_the_seeds_words(stripe: ExternalApi) -> None:
    row = connect(stripe)
    services.update_connection(row, {"status": "revoked"})
    with pytest.raises(ConnectionRevoked):
        services.get_connection("stripe")
    services.update_connection(row, {"status": "expired"})
    with pytest.raises(ConnectionExpired, match=r"^Connection has expired\. Please re-authenticate\.$"):
        services.get_connection("stripe")
    services.update_connection(row, {"credentials": {"access_token": "new"}})
    assert services.get_connection("stripe").status == "active"
    providers.update_external_api(stripe, {"status": "inactive"})
    with pytest.raises(ConnectionInactive):
        services.get_connection(row.pk)
    providers.delete_external_api(stripe)
    with pytest.raises(NotFound):
        services.get_connection(row.pk)


def test_expiry_is_a_moment_and_a_refresh_token_outlives_it() -> None:
    api = services.create_external_api(OAUTH2)
    expires_at = timezone.now() + timedelta(hours=1)
    row = connect(api, credentials={"access_token": "a", "expires_at": expires_at.isoformat()})
    assert services.get_connection(row.pk).expires_at == expires_at
    with time_machine.travel(expires_at + timedelta(seconds=1)):
        with pytest.raises(ConnectionExpired):
            services.get_connection(row.pk)
        services.update_connection(row, {"credentials": {"refresh_token": "r"}})
        check_usable(lookup.find(row.pk))


def test_a_change_keeps_the_credentials_that_it_does_not_mention() -> None:
    api = services.create_external_api(OAUTH2)
    row = connect(api, credentials={"access_token": "a", "refresh_token": "r"})
    services.update_connection(row, {"credentials": {"access_token": "b"}, "note": "rolled", "provider_data": {"x": 1}})
    opened = services.get_connection(row.pk)
    assert dict(opened.credentials) == {"access_token": "b", "refresh_token": "r"}
    assert (opened.row.note, opened.provider_data) == ("rolled", {"x": 1})
    services.update_connection(row, {"credentials": {"refresh_token": None}})
    assert dict(services.get_connection(row.pk).credentials) == {"access_token": "b"}


def test_a_ciphertext_moved_between_connections_does_not_open(stripe: ExternalApi) -> None:
    first, second = connect(stripe), connect(stripe, connection_name="two", credentials={"access_token": "other"})
    with database.cursor() as cursor:
        cursor.execute(
            "UPDATE connections_externalapicredential SET secrets = (SELECT secrets FROM "
            "connections_externalapicredential WHERE connection_id = %s) WHERE connection_id = %s",
            [first.pk, second.pk],
        )
    with pytest.raises(Unreadable):
        services.get_connection(second.pk)
    assert services.test_connection(ExternalApiConnection.objects.get(pk=second.pk)).is_ok is False


def damage(table: str, column: str, pk: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET secrets = '\\x0102' WHERE {column} = %s", [pk])


def test_damaged_credentials_are_mended_by_new_ones() -> None:
    api = services.create_external_api(OAUTH2)
    row = connect(api, credentials={"access_token": "a", "refresh_token": "r"})
    damage("connections_externalapicredential", "connection_id", row.pk)
    with pytest.raises(Unreadable):
        services.update_connection(row, {"credentials": {"access_token": "b"}})
    services.update_connection(row, {"note": "damaged"})
    services.update_connection(row, {"credentials": {"access_token": "b", "refresh_token": None}})
    assert dict(services.get_connection(row.pk).credentials) == {"access_token": "b"}


def test_a_damaged_provider_is_mended_by_new_secrets() -> None:
    config = {**STRIPE["api_config"], "api_key": {"key": "old"}}
    api = services.create_external_api({**STRIPE, "api_config": config})
    damage("external_apis_externalapi", "id", api.pk)
    providers.update_external_api(api, {"status": "inactive"})
    with pytest.raises(Unreadable):
        providers.update_external_api(api, {"api_config": {"timeout_ms": 5}})
    providers.update_external_api(api, {"status": "active", "api_config": {"api_key": {"key": "new"}}})
    assert dict(ExternalApi.objects.get().secrets) == {"api_key.key": "new"}
    damage("external_apis_externalapi", "id", api.pk)
    providers.update_external_api(api, {"api_config": {"auth_type": "none", "api_key": None}})
    assert dict(ExternalApi.objects.get().secrets) == {}


def test_soft_delete_keeps_the_credential_and_restore_brings_it_back(stripe: ExternalApi) -> None:
    row = connect(stripe)
    services.delete_connection(row)
    with pytest.raises(NotFound):
        services.get_connection(row.pk)
    assert ExternalApiCredential.objects.count() == 1
    connect(stripe)
    with pytest.raises(Conflict):
        services.restore_connection(row)
    services.delete_connection(ExternalApiConnection.objects.get(deleted_at=None))
    row.refresh_from_db()
    services.restore_connection(row)
    assert services.get_connection("stripe").id == row.pk


def test_the_credentials_history_shows_fingerprints(stripe: ExternalApi) -> None:
    row = connect(stripe)
    services.update_connection(row, {"credentials": {"access_token": "sk-marlin"}})
    first, second = ExternalApiCredential.history.order_by("history_date")
    assert first.secret_fingerprints["access_token"] != second.secret_fingerprints["access_token"]
    assert "swordfish" not in tables()
    assert "marlin" not in tables()


@pytest.fixture
def allowed(sandbox: Sandbox, settings: Any) -> Sandbox:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]
    return sandbox


def sandbox_connections(sandbox: Sandbox) -> list[ExternalApiConnection]:
    rows = []
    for definition in definitions.providers(sandbox.url):
        body = dict(definition)
        connection = body.pop("connection")
        rows.append(services.create_connection(services.create_external_api(body), connection))
    return rows


def test_every_scheme_calls_the_sandbox_and_fails_with_a_wrong_credential(allowed: Sandbox) -> None:
    rows = sandbox_connections(allowed)
    assert len(rows) >= 8
    for row in rows:
        client = services.get_api_client(row.pk)
        assert client.get("/balance").status_code == 200, row.external_api.slug
        outcome = services.test_connection(row)
        assert (outcome.is_ok, outcome.status) == (True, 200), (row.external_api.slug, outcome)
        secrets = dict.fromkeys(row.credential.secrets, "wrong-credential")
        if not secrets:
            continue
        services.update_connection(row, {"credentials": secrets})
        with pytest.raises(UpstreamUnauthorized):
            services.get_api_client(row.pk).get("/balance")
        outcome = services.test_connection(ExternalApiConnection.objects.get(pk=row.pk))
        assert (outcome.is_ok, outcome.status) == (False, 401), row.external_api.slug
        assert "wrong-credential" not in outcome.message


def test_a_connection_gives_its_providers_url_variables() -> None:
    api = services.create_external_api(
        {
            "name": "Shop",
            "slug": "shop",
            "category": "other",
            "api_config": {
                "base_url": "https://{shop}.example.com",
                "auth_type": "none",
                "url_variables": {"shop": {"pattern": "[a-z]+"}},
            },
        }
    )
    for data in ({}, {"shop": "evil.com/"}):
        with pytest.raises(InvalidInput) as caught:
            services.create_connection(api, {"connection_name": "A", "provider_data": data})
        assert [item["path"] for item in caught.value.details["errors"]] == ["provider_data.shop"]
    row = services.create_connection(api, {"connection_name": "A", "provider_data": {"shop": "acme"}})
    with pytest.raises(InvalidInput, match=r"provider_data\.shop"):
        services.update_connection(row, {"provider_data": {}})
    assert services.get_api_client(row.pk)._origin.host == "acme.example.com"
