"""What a change of a connection survives: the edges of time, a missing credential, others at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection as database

from connections import services
from connections.models import ExternalApiConnection, ExternalApiCredential
from external_apis import providers
from external_apis.errors import Conflict, InvalidInput, MissingCredential
from external_apis.models import ExternalApi
from external_apis.tenancy import Scope
from tests.factories import make_connection, make_provider, make_tenant, provider_body
from tests.rest import connections_of, error_of, with_key

AT_THE_EDGES = [
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00",
    "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59-01:00",
    "9999-01-01T00:00:00Z",
]


@pytest.mark.django_db
@pytest.mark.parametrize("moment", AT_THE_EDGES)
def test_an_expiry_that_no_answer_could_show_is_refused(moment: str) -> None:
    api = make_provider()
    row = make_connection(api)
    client = with_key()
    body = {"credentials": {"expires_at": moment}}
    answer = client.send("patch", f"{connections_of(api)}/{row.pk}", body)
    assert error_of(answer) == (400, "VALIDATION_ERROR")
    assert [item["path"] for item in answer.json()["error"]["details"]["errors"]] == ["credentials.expires_at"]
    answer = client.send("post", connections_of(api), {"connection_name": "x", **body})
    assert error_of(answer) == (400, "VALIDATION_ERROR")
    assert client.get(connections_of(api)).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "9999-12-31", 1893456000, "1893456000"])
def test_a_day_of_rotation_lies_in_the_same_years(day: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        services.update_connection(make_connection(), {"rotate_by": day})
    assert [item["path"] for item in caught.value.details["errors"]] == ["rotate_by"]


@pytest.mark.django_db
def test_an_expiry_with_another_offset_is_the_same_moment() -> None:
    row = make_connection(credentials={"access_token": "x", "expires_at": "2999-01-01T02:00:00+02:00"})
    row.credential.refresh_from_db()
    assert str(row.credential.expires_at) == "2999-01-01 00:00:00+00:00"


@pytest.mark.django_db
def test_a_connection_without_its_credential_says_so_and_is_mended() -> None:
    row = make_connection()
    url = f"{connections_of(row.external_api)}/{row.pk}"
    ExternalApiCredential.objects.all().delete()
    with pytest.raises(MissingCredential, match="no stored credentials"):
        services.get_connection(row.pk)
    answer = with_key().send("post", f"{url}/test")
    assert (answer.status_code, answer.json()["ok"]) == (200, False)
    answer = with_key().send("patch", url, {"note": "looked at"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "MISSING_CREDENTIAL")
    answer = with_key().send("patch", url, {"credentials": {"access_token": "swordfish"}})
    assert answer.status_code == 200
    assert "error" not in answer.json()
    assert services.get_connection(row.pk).credentials["access_token"] == "swordfish"


@pytest.mark.django_db
def test_only_the_whole_installation_gives_ids() -> None:
    acme, other = make_tenant(), make_tenant()
    theirs = make_connection(make_provider(tenant=other))
    scope = Scope(acme.pk)
    api = make_provider(tenant=acme)
    for taken_or_free in (theirs.pk, "conn_free"):
        with pytest.raises(InvalidInput) as caught:
            services.create_connection(api, {"connection_name": "x", "id": taken_or_free}, scope)
        assert [item["path"] for item in caught.value.details["errors"]] == ["id"]
    for taken_or_free in (theirs.external_api_id, "ext_api_free"):
        with pytest.raises(InvalidInput) as caught:
            providers.create_external_api({**provider_body(), "id": taken_or_free}, scope)
        assert [item["path"] for item in caught.value.details["errors"]] == ["id"]


@pytest.mark.django_db(transaction=True)
def test_connections_made_at_once_without_a_slug_all_get_one() -> None:
    api, together = make_provider(), 6
    barrier = Barrier(together)

    def create(_: int) -> str:
        barrier.wait(10)
        try:
            body = {"connection_name": "Same", "credentials": {"access_token": "x"}}
            return services.create_connection(ExternalApi.objects.get(pk=api.pk), body).slug
        finally:
            database.close()

    with ThreadPoolExecutor(together) as pool:
        slugs = list(pool.map(create, range(together)))
    assert sorted(slugs) == ["default", "same", "same-2", "same-3", "same-4", "same-5"]


@pytest.mark.django_db
def test_a_slug_that_was_asked_for_is_never_another() -> None:
    api = make_provider()
    make_connection(api, slug="mine")
    with pytest.raises(Conflict):
        make_connection(api, slug="mine")
    assert ExternalApiConnection.objects.count() == 1


def _call(credentials: Any) -> Any:
    body = provider_body(api_config={"auth_type": "basic"})
    row = make_connection(services.create_external_api(body), credentials=credentials)
    return services.get_api_client(row.pk)


@pytest.mark.django_db
def test_an_empty_password_is_a_password() -> None:
    assert _call({"username": "key", "password": ""})._scheme._headers == (("Authorization", "Basic a2V5Og=="),)
    with pytest.raises(MissingCredential):
        _call({"username": "key"})
    with pytest.raises(MissingCredential):
        _call({"password": ""})
