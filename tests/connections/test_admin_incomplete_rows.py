"""Connections that lack a row they should have: a credential, a history. Their pages open, and help to mend them."""

from __future__ import annotations

import pytest
from django.contrib.admin.utils import quote
from django.test import Client

from connections.models import ExternalApiConnection, ExternalApiCredential
from tests.connections.test_admin_connections import LIST, SECRET, changed, client_of, problems, url_of
from tests.factories import make_connection

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    return client_of(username="operator", is_superuser=True)


@pytest.fixture
def bare() -> ExternalApiConnection:
    row = make_connection()
    ExternalApiCredential.objects.filter(pk=row.pk).delete()
    return ExternalApiConnection.objects.get(pk=row.pk)


def test_missing_credentials_are_said(operator: Client, bare: ExternalApiConnection) -> None:
    page = operator.get(url_of(bare))
    assert page.status_code == 200
    assert "credentials are missing" in page.content.decode()
    viewer = client_of("connections.view_externalapiconnection")
    assert "credentials are missing" in viewer.get(url_of(bare)).content.decode()
    assert "credentials are missing" not in operator.get(url_of(make_connection())).content.decode()
    for name in ("history", "delete"):
        assert operator.get(url_of(bare, name)).status_code == 200
    assert operator.get(LIST).status_code == 200


def test_new_credentials_take_the_place_of_missing_ones(operator: Client, bare: ExternalApiConnection) -> None:
    response = operator.post(url_of(bare), changed(**{"credentials.access_token": SECRET}))
    assert response.status_code == 302, problems(response)
    assert dict(ExternalApiCredential.objects.get(pk=bare.pk).secrets) == {"access_token": SECRET}
    assert "credentials are missing" not in operator.get(url_of(bare)).content.decode()


def test_a_row_without_credentials_can_be_renamed_and_tested(operator: Client, bare: ExternalApiConnection) -> None:
    assert operator.post(url_of(bare), changed(connection_name="Renamed")).status_code == 302
    bare.refresh_from_db()
    assert bare.connection_name == "Renamed"
    page = operator.post(url_of(bare, "test"), follow=True)
    assert page.status_code == 200
    assert "does not work" in page.content.decode()


def test_a_row_without_history_says_so(operator: Client) -> None:
    row = make_connection()
    row.history.all().delete()
    row.credential.history.all().delete()
    page = operator.get(url_of(row, "history"))
    assert page.status_code == 200
    assert "Nothing is recorded" in page.content.decode()
    api = row.external_api
    api.history.all().delete()
    assert operator.get(f"/admin/external_apis/externalapi/{quote(api.pk)}/history/").status_code == 200
