"""``/exsvc/api/v1/services/{id}/credentials``: stored sealed, read in clear only after the event of it is committed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from connections.models import ExternalApiConnection, ExternalApiCredential
from connections.services import get_connection
from external_apis.models import AuditEvent, ExternalApi
from external_apis.providers import update_external_api
from tests.exsvc import SERVICES, of_tenant, service_body
from tests.factories import make_connection, make_provider, make_tenant
from tests.rest import RestClient, error_of, with_key

pytestmark = pytest.mark.django_db

SECRET = "sk_upstream_swordfish_0123456789"


def _registered(client: Any, **fields: Any) -> str:
    return f"{client.send('post', SERVICES, service_body(**fields))['Location']}/credentials"


def test_stored_and_read() -> None:
    tenant = make_tenant()
    client = of_tenant(tenant)
    url = _registered(client)
    assert error_of(client.get(url)) == (404, "SERVICE_NOT_FOUND")  # there are none yet
    body = {
        "auth_type": "bearer",
        "credentials": {"access_token": SECRET, "scopes": ["charges"], "additional_data": {"account": 7}},
        "expires_at": "2030-01-15T10:30:00Z",
    }
    stored = client.send("put", url, body)
    assert stored.status_code == 200, stored.json()
    assert SECRET.encode() not in stored.content
    assert set(stored.json()["credentials"]["access_token_encrypted"]) == {"keyVersion", "fingerprint", "hint"}
    response = client.get(url)
    assert response.json() == {
        "service_id": url.split("/")[5],
        "auth_type": "bearer",
        "credentials": body["credentials"],
        "expires_at": "2030-01-15T10:30:00.000Z",
    }
    assert response["Cache-Control"] == "no-store"
    row = ExternalApiConnection.objects.get()
    assert (row.slug, row.tenant_id, row.connection_name) == ("default", tenant.pk, "Payment Gateway")
    assert get_connection("payment-gateway", tenant=tenant.pk).credentials["access_token"] == SECRET
    # What is read may be sent back.
    assert client.send("put", url, response.json()).status_code == 200
    assert client.get(url).json() == response.json()


@pytest.mark.django_db(transaction=True)
def test_no_secret_leaves_before_its_event_is_committed() -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)
    client.send("put", url, {"auth_type": "bearer", "credentials": {"access_token": SECRET}})
    assert SECRET.encode() in client.get(url).content
    event = AuditEvent.objects.filter(action="credentials.read").get()
    assert event.changes == {"read": ["access_token"]}
    assert (event.object_id, event.actor[:4]) == (ExternalApiConnection.objects.get().pk, "key:")
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE external_apis_auditevent ADD CONSTRAINT no_readings CHECK (action <> 'credentials.read') "
            "NOT VALID"
        )
    try:
        response = client.get(url)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE external_apis_auditevent DROP CONSTRAINT no_readings")
    assert response.status_code == 500
    assert SECRET.encode() not in response.content


def test_what_is_stored_replaces_everything() -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)
    first = {
        "access_token": SECRET,
        "api_key": "k" * 20,
        "additional_data": {"a": 1},
        "token_type": "Bearer",
        "scopes": ["a"],
    }
    client.send("put", url, {"auth_type": "bearer", "credentials": first, "expires_at": "2030-01-15T10:30:00Z"})
    before = ExternalApiConnection.objects.get().pk
    response = client.send("put", url, {"credentials": {"access_token": "another one"}})
    assert response.status_code == 200, response.json()
    read = client.get(url).json()
    assert (read["credentials"], read["expires_at"]) == ({"access_token": "another one"}, None)
    assert ExternalApiConnection.objects.get().pk == before
    event = AuditEvent.objects.filter(action="connection.updated").latest("id")
    assert SECRET not in str(event.changes)
    assert "another one" not in str(event.changes)
    assert (
        event.changes["credentials.secret_fingerprints.access_token"][0]
        != (event.changes["credentials.secret_fingerprints.access_token"][1])
    )


def test_another_auth_type_drops_what_it_does_not_use() -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)
    client.send("put", url, {"auth_type": "bearer", "credentials": {"access_token": SECRET}})
    body = {"auth_type": "basic", "credentials": {"username": "ann", "password": "swordfish"}}
    assert client.send("put", url, body).status_code == 200
    read = client.get(url).json()
    assert (read["auth_type"], read["credentials"]) == ("basic", body["credentials"])
    assert ExternalApi.objects.get().auth_type == "basic"
    assert ExternalApiCredential.objects.get().secret_fingerprints.keys() == {"username", "password"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"credentials": {"username": "x"}}, "credentials.username"),
        ({"credentials": {"access_token": ""}}, "credentials.access_token"),
        ({"credentials": {"access_token": 7}}, "credentials.access_token"),
        ({"credentials": {"access_token": "a\0b"}}, "credentials.access_token"),
        ({"credentials": []}, "credentials"),
        ({"credentials": {"access_token": "x", "expires_at": "2030-01-15T10:30:00Z"}}, "credentials.expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"auth_type": "magic"}, "auth_type"),
        ({"auth_type": "oauth2"}, "api_config.oauth2"),
        ({"service_id": "ext_api_another"}, "service_id"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_a_refused_change_changes_nothing(change: dict[str, Any], path: str) -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)
    good = {"auth_type": "bearer", "credentials": {"access_token": SECRET}}
    client.send("put", url, good)
    response = client.send("put", url, good | change)
    assert error_of(response) == (400, "INVALID_REQUEST")
    assert path in {item["path"] for item in response.json()["error"]["details"]["errors"]}
    assert client.get(url).json()["credentials"] == good["credentials"]
    assert ExternalApi.objects.get().auth_type == "bearer"


def test_a_services_auth_type_goes_with_its_credentials_or_not_at_all() -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)
    wrong = {"auth_type": "bearer", "credentials": {"username": "ann"}}
    assert error_of(client.send("put", url, wrong)) == (400, "INVALID_REQUEST")
    assert ExternalApi.objects.get().auth_type == "none"


def test_each_tenant_has_its_own_credentials_of_a_shared_service() -> None:
    first, second = make_tenant(), make_tenant()
    api = make_provider(slug="shared")
    make_connection(api, slug="default", credentials={"access_token": "the installation's own"})
    url = f"{SERVICES}/{api.pk}/credentials"
    clients = [of_tenant(first), of_tenant(second)]
    for client in clients:
        assert error_of(client.get(url)) == (404, "SERVICE_NOT_FOUND")  # never another's, nor the installation's
    for number, client in enumerate(clients):
        assert client.send("put", url, {"credentials": {"access_token": f"of tenant {number}"}}).status_code == 200
    for number, client in enumerate(clients):
        assert client.get(url).json()["credentials"] == {"access_token": f"of tenant {number}"}
    assert with_key().get(url).json()["credentials"] == {"access_token": "the installation's own"}
    body = {"auth_type": "basic", "credentials": {"username": "a", "password": "b"}}
    assert error_of(clients[0].send("put", url, body)) == (403, "FORBIDDEN")


def test_only_the_default_connection_counts() -> None:
    tenant = make_tenant()
    api = make_provider(tenant=tenant)
    make_connection(api, tenant=tenant, slug="second")
    client = of_tenant(tenant)
    assert error_of(client.get(f"{SERVICES}/{api.pk}/credentials")) == (404, "SERVICE_NOT_FOUND")


def test_revoked_and_deleted_credentials_are_none() -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)
    body = {"auth_type": "bearer", "credentials": {"access_token": SECRET}}
    for change in ({"status": "revoked"}, {"deleted_at": timezone.now()}):
        assert client.send("put", url, body).status_code == 200
        assert client.get(url).status_code == 200
        ExternalApiConnection.objects.update(**change)
        assert error_of(client.get(url)) == (404, "SERVICE_NOT_FOUND")
    assert client.send("put", url, body).status_code == 200  # a new one, beside the deleted
    assert ExternalApiConnection.objects.count() == 2


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [
        (("services:read",), (200, 403, 403)),
        (("services:write",), (403, 403, 200)),
        (("credentials:read",), (403, 200, 403)),
        (("providers:write", "connections:write"), (403, 403, 403)),
        (("*",), (200, 200, 200)),
    ],
)
def test_scopes(scopes: tuple[str, ...], statuses: tuple[int, ...]) -> None:
    tenant = make_tenant()
    url = _registered(of_tenant(tenant))
    body = {"auth_type": "bearer", "credentials": {"access_token": SECRET}}
    of_tenant(tenant).send("put", url, body)
    client = of_tenant(tenant, *scopes)
    answers = client.get(SERVICES), client.get(url), client.send("put", url, body)
    assert tuple(response.status_code for response in answers) == statuses
    for response in answers:
        if response.status_code == 403:
            assert error_of(response) == (403, "FORBIDDEN")
            assert SECRET.encode() not in response.content


def test_a_damaged_row_is_told_and_can_be_replaced() -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)
    body = {"auth_type": "bearer", "credentials": {"access_token": SECRET}}
    client.send("put", url, body)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE connections_externalapicredential SET secrets = %s", [b"\x01\x02"])
    assert error_of(client.get(url)) == (500, "INTERNAL_ERROR")
    assert not AuditEvent.objects.filter(action="credentials.read").exists()
    assert client.send("put", url, body).status_code == 200
    assert client.get(url).json()["credentials"] == body["credentials"]


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_one_connection() -> None:
    client = of_tenant(make_tenant())
    url = _registered(client)

    def put(number: int) -> int:
        own = RestClient()
        own.defaults = client.defaults
        try:
            body = {"auth_type": "bearer", "credentials": {"access_token": f"number {number}"}}
            return int(own.send("put", url, body).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, range(8))) == {200}
    assert ExternalApiConnection.objects.count() == 1


@pytest.mark.parametrize("credentials", [{}, {"access_token": "one\r\nX-Evil: two"}, {"access_token": "one\n"}])
def test_what_can_never_be_sent_is_refused_and_what_was_there_stays(credentials: dict[str, str]) -> None:
    url = _registered(of_tenant(make_tenant()))
    client = of_tenant(ExternalApi.objects.get().tenant)
    client.send("put", url, {"auth_type": "bearer", "credentials": {"access_token": SECRET}})
    response = client.send("put", url, {"credentials": credentials})
    assert response.status_code == 400
    assert "X-Evil" not in response.content.decode()
    assert client.get(url).json()["credentials"] == {"access_token": SECRET}


def test_a_key_of_several_lines_is_one_secret() -> None:
    url = _registered(of_tenant(make_tenant()))
    client = of_tenant(ExternalApi.objects.get().tenant)
    body = {"auth_type": "jwt_bearer", "credentials": {"private_key": "-----BEGIN\nEND-----\n"}}
    assert "line break" not in client.send("put", url, body).content.decode()


def test_credentials_of_an_auth_type_that_is_no_more_are_not_handed_out() -> None:
    """As when the operators change a service that all tenants share."""
    api = make_provider(api_config={"auth_type": "bearer", "base_url": "https://api.example.com"})
    client = of_tenant(make_tenant())
    url = f"{SERVICES}/{api.pk}/credentials"
    client.send("put", url, {"credentials": {"access_token": SECRET}})
    update_external_api(api, {"api_config": {"auth_type": "basic"}})
    response = client.get(url)
    assert (response.status_code, SECRET in response.content.decode()) == (409, False)
    assert not AuditEvent.objects.filter(action="credentials.read").exists()
    assert client.send("put", url, {"credentials": {"username": "ann", "password": "swordfish"}}).status_code == 200
    assert client.get(url).json()["credentials"] == {"username": "ann", "password": "swordfish"}
