"""1,000 connections listed through REST in one request, with 1,000 and with 100,000 of them in the table."""

from __future__ import annotations

import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connections.models import ExternalApiConnection, ExternalApiCredential
from external_apis import crypto, valkey
from external_apis.models import ExternalApi
from tests.factories import make_connection, make_many_connections, make_provider
from tests.rest import RestClient, connections_of, with_key

pytestmark = pytest.mark.django_db(transaction=True)

_LISTED, _RUNS = 1_000, 5


def test_time_follows_the_page_and_not_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    api = make_provider()
    client = with_key()
    monkeypatch.setattr(crypto.Keyring, "open", _refuse_to_open)
    make_many_connections(api, 999)
    make_connection(api, slug="pattern")
    small, small_counted, queries = _measure(client, api)
    _multiply(api, 99_000)
    large, large_counted, more_queries = _measure(client, api)
    last = min(_list(client, api, first=99_000) for _ in range(_RUNS))
    print(
        f"\n1,000 connections through REST: {small:.0f} ms with 1,000 rows, {large:.0f} ms with "
        f"100,000 rows, ratio {large / small:.2f} ({small_counted:.0f} ms, {large_counted:.0f} ms and "
        f"{large_counted / small_counted:.2f} when the total is counted too, as it is once in 5 s); "
        f"the last 1,000 of 100,000: {last:.0f} ms, {last / large:.2f} of the first; "
        f"{max(queries, more_queries)} queries at most, nothing decrypted"
    )
    assert max(queries, more_queries) <= 5
    # Generous, because the machine is shared; following the table would make it a hundred.
    assert large / small < 2
    assert large_counted / small_counted < 4
    assert last / large < 4


def _refuse_to_open(self: crypto.Keyring, sealed: bytes, identity: str) -> bytes:
    raise AssertionError(f"a list opened {identity}")


def _multiply(api: ExternalApi, count: int) -> None:
    """Copy the connection ``pattern`` with its credential; a copied ciphertext would not open, and need not."""
    connection_table, credential_table = (
        model._meta.db_table for model in (ExternalApiConnection, ExternalApiCredential)
    )
    new_id = "'conn_copy' || lpad(n::text, 8, '0')"
    with connection.cursor() as cursor:
        for table, changed in (
            (connection_table, {"id": new_id, "slug": "'copy-' || n"}),
            (credential_table, {"connection_id": new_id}),
        ):
            columns = [column.name for column in connection.introspection.get_table_description(cursor, table)]
            names = ", ".join(columns)
            values = ", ".join(changed.get(name, f"pattern.{name}") for name in columns)
            key = "id" if table == connection_table else "connection_id"
            chosen = f"{key} = (SELECT id FROM {connection_table} WHERE slug = 'pattern' AND external_api_id = %s)"
            cursor.execute(
                f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(1, %s) AS n, "
                f"(SELECT * FROM {table} WHERE {chosen}) AS pattern",
                [count, api.pk],
            )
        cursor.execute(f"VACUUM ANALYZE {connection_table}, {credential_table}")


def _measure(client: RestClient, api: ExternalApi) -> tuple[float, float, int]:
    """Return the milliseconds without and with counting the rows, and the queries of the dearest page."""
    _forget_totals()
    with CaptureQueriesContext(connection) as captured:
        client.get(f"{connections_of(api)}?limit={_LISTED}")
    queries = len(captured)  # now: the next request empties the log
    assert queries
    timings: dict[bool, list[float]] = {False: [], True: []}
    for counted in (False, True) * _RUNS:
        if counted:
            _forget_totals()
        timings[counted].append(_list(client, api))
    return min(timings[False]), min(timings[True]), queries


def _list(client: RestClient, api: ExternalApi, first: int = 0) -> float:
    began = time.perf_counter()
    found = client.get(f"{connections_of(api)}?limit={_LISTED}&offset={first}").json()
    assert len(found) == _LISTED
    return (time.perf_counter() - began) * 1000


def _forget_totals() -> None:
    for key in valkey.client().scan_iter(f"{valkey.PREFIX}total:*"):
        valkey.client().delete(key)
