"""A page of connections, read by a statement of our own: the same as the ORM would load, in one query."""

from __future__ import annotations

from typing import Any

import pytest

from connections import listing, lookup
from connections.api.representation import connection_item
from connections.models import ExternalApiConnection, ExternalApiCredential, Grant
from external_apis.crypto import Sealed
from external_apis.tenancy import Scope
from tests.factories import make_connection, make_provider, make_tenant

pytestmark = pytest.mark.django_db


def _rows(count: int = 4) -> list[ExternalApiConnection]:
    api = make_provider()
    return [make_connection(api) for _ in range(count)]


def test_rows_are_as_the_orm_loads_them(django_assert_num_queries: Any) -> None:
    whole, bare, damaged, granted = _rows()
    ExternalApiCredential.objects.filter(connection=bare).delete()
    ExternalApiCredential.objects.filter(connection=damaged).update(secrets=Sealed(b"\x01\x02"))
    Grant.objects.update_or_create(connection=granted, defaults={"requested_scopes": ["a", "b"]})
    make_connection(make_provider(), tenant=make_tenant())
    with django_assert_num_queries(1):
        found = listing.read(lookup.in_scope(Scope()), 0, 10)
        shown = [connection_item(row) for row in found]
    loaded = lookup.in_scope(Scope()).select_related("credential", "grant", "external_api")
    assert shown == [connection_item(row) for row in loaded]
    assert [row.pk for row in found[1:]] == [granted.pk, damaged.pk, bare.pk, whole.pk]
    assert found[1].grant.requested_scopes == ["a", "b"]
    assert "error" in shown[2]
    assert getattr(found[3], "credential", None) is None
    assert found[4].external_api is found[1].external_api
    assert dict(found[4].credential.secrets) == dict(whole.credential.secrets)
    assert found[4].note == whole.note  # another column is loaded when it is asked for


def test_a_page_begins_and_ends_where_it_should() -> None:
    first, second, third = (row.pk for row in _rows(3))
    rows = lookup.in_scope(Scope())
    assert [row.pk for row in listing.read(rows, 0, 2)] == [third, second]
    assert [row.pk for row in listing.read(rows, 2, 2)] == [first]
    assert listing.read(rows, 3, 2) == listing.read(rows.filter(slug="none"), 0, 2) == []


def test_a_percent_sign_in_a_filter_is_just_one() -> None:
    make_connection(connection_name="100 % done")
    rows = lookup.in_scope(Scope()).filter(connection_name__icontains="0 %")
    assert [row.connection_name for row in listing.read(rows, 0, 5)] == ["100 % done"]
