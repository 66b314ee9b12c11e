"""The admin's list of connections, and what is done with a selection of it, where there are thousands."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections.models import ExternalApiConnection
from external_apis.admin.counting import COUNTED_AT_MOST
from external_apis.admin.pages import TAKEN_AT_ONCE
from external_apis.models import ExternalApi
from tests.factories import make_connection, make_provider, make_tenant, make_user

pytestmark = pytest.mark.django_db

LIST = "/admin/connections/externalapiconnection/"
MANY = 5_000
ACROSS = {"select_across": "1", "index": "0"}


def insert_many(api: ExternalApi, count: int = MANY) -> None:
    """Rows without credentials and without history, as a bulk load leaves them."""
    with database.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO connections_externalapiconnection
                (id, external_api_id, connection_name, slug, note, provider_data, status, calls_count, errors_count,
                 authenticated_at, created_at, updated_at)
            SELECT 'conn_bulk' || to_char(n, 'FM000000'), %s, 'Bulk ' || n, 'bulk-' || n, '', '{}', 'active', 0, 0,
                   now(), now(), now()
            FROM generate_series(1, %s) n
            """,
            [api.pk, count],
        )
        cursor.execute("ANALYZE connections_externalapiconnection")


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(make_user(username="operator", is_superuser=True))
    cache.clear()
    return client


def ask(client: Client, query: str = "") -> tuple[Any, list[str]]:
    with CaptureQueriesContext(database) as captured:
        page = client.get(f"{LIST}{query}")
    assert page.status_code == 200
    return page, [query["sql"] for query in captured]


def full_counts(queries: list[str]) -> list[str]:
    return [sql for sql in queries if "COUNT(" in sql and "LIMIT" not in sql]


def hidden_fields(page: str) -> dict[str, list[str]]:
    """What the confirmation page posts when it is agreed to."""
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page):
        fields.setdefault(name, []).append(value)
    return fields


@pytest.mark.parametrize("query", ["", "?p=50", "?q=bulk", "?q=ulk%201", "?q=bulk&p=3", "?status__exact=active"])
def test_a_page_of_thousands_costs_the_queries_of_a_page_of_a_few(operator: Client, query: str) -> None:
    api = make_provider()
    make_connection(api, connection_name="Bulk 1", slug="bulk")
    _, few = ask(operator, query.replace("p=50", "p=1").replace("&p=3", ""))
    insert_many(api)
    page, many = ask(operator, query)
    assert len(page.context["cl"].result_list) == 50
    assert len(many) <= len(few) + 1
    assert not any("historical" in sql or "credential" in sql for sql in many)


def test_a_search_with_thousands_of_hits_is_not_counted_to_its_end(operator: Client) -> None:
    insert_many(make_provider())
    page, queries = ask(operator, "?q=bulk")
    assert full_counts(queries) == []
    assert page.context["cl"].result_count == COUNTED_AT_MOST
    assert "More than 1000 were found" in page.content.decode()
    page, queries = ask(operator, "?q=bulk%2049")
    assert page.context["cl"].result_count == 1 + 10 + 100
    assert "were found" not in page.content.decode()
    # The whole list is counted, once in some seconds.
    assert ask(operator)[0].context["cl"].result_count == MANY


def test_everything_is_deleted_in_bounded_steps(operator: Client) -> None:
    insert_many(make_provider(), TAKEN_AT_ONCE + 40)
    for taken, left in ((TAKEN_AT_ONCE, 40), (40, 0)):
        row = ExternalApiConnection.objects.filter(deleted_at=None)[0]
        response = operator.post(LIST, {"action": "delete_selected", "_selected_action": row.pk, **ACROSS})
        page = response.content.decode()
        assert ("repeat it for the rest" in page) == (left > 0)
        fields = hidden_fields(page)
        assert len(fields["_selected_action"]) == taken
        assert operator.post(LIST, fields).status_code == 302
        assert ExternalApiConnection.objects.filter(deleted_at=None).count() == left
    done = TAKEN_AT_ONCE + 40
    assert ExternalApiConnection.history.filter(deleted_at__isnull=False, actor="user:operator").count() == done
    assert LogEntry.objects.count() == done


def test_everything_is_restored_in_bounded_steps(operator: Client) -> None:
    insert_many(make_provider(), TAKEN_AT_ONCE + 1)
    ExternalApiConnection.objects.update(deleted_at="2026-01-01T00:00Z")
    selected = {"action": "restore_selected", "_selected_action": "conn_bulk000001", **ACROSS}
    page = operator.post(f"{LIST}?deleted=yes", selected, follow=True).content.decode()
    assert f"Restored: {TAKEN_AT_ONCE}." in page
    assert "repeat" in page
    assert ExternalApiConnection.objects.exclude(deleted_at=None).count() == 1


def test_a_selection_goes_no_further_than_the_filter(operator: Client) -> None:
    tenant = make_tenant()
    api = make_provider()
    mine, other = make_connection(api, tenant=tenant), make_connection(api)
    query = f"{LIST}?tenant__id__exact={tenant.pk}"
    page = operator.post(query, {"action": "delete_selected", "_selected_action": mine.pk, **ACROSS}).content.decode()
    assert other.pk not in page
    operator.post(query, hidden_fields(page))
    assert list(ExternalApiConnection.objects.filter(deleted_at=None)) == [other]


def test_what_is_deleted_already_is_not_deleted_again(operator: Client) -> None:
    row = make_connection()
    selected = {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"}
    operator.post(LIST, selected)
    log = LogEntry.objects.count()
    page = operator.post(f"{LIST}?deleted=yes", selected, follow=True).content.decode()
    assert "Nothing of it can be deleted" in page
    assert LogEntry.objects.count() == log
