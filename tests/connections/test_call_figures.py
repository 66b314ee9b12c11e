"""What was counted of calls: in the tables exactly once, bounded, and shown where it belongs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import batches, usage_pruning, usage_rollup
from connections.call_figures import latest_calls, periods_of, recent_figures
from connections.client import usage
from connections.client.measures import bucket_name
from connections.client.samples import Sample
from connections.models import CallPeriod, ExternalApiConnection, Grant, ObservedCall, ProviderPeriod, ProviderTotal
from connections.tasks import prune_usage
from external_apis import valkey
from external_apis.paging import TOTAL_KEYS
from tests.envelope import EXTERNAL, client_of, data_of, failure_of
from tests.factories import make_connection, make_key, make_provider, make_tenant, make_user

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TOKEN = "token-of-the-metrics"


@pytest.fixture(autouse=True)
def _empty_counters() -> Iterator[None]:
    with usage.drain():
        pass
    for key in valkey.client().scan_iter(f"{TOTAL_KEYS}*"):
        valkey.client().delete(key)
    yield
    with usage.drain():
        pass


def call(row: ExternalApiConnection, at: datetime, seconds: float = 0.1, error: str = "", **more: int) -> None:
    """Count and keep a call, as the client does."""
    bag = {"calls": 1, "us": round(seconds * 1e6), bucket_name(seconds): 1, **more}
    bag |= {"errors": 1, f"error:{error}": 1, "status:5xx": 1} if error else {"status:2xx": 1}
    usage.record(row.pk, bag, at=at.timestamp())
    ms = round(seconds * 1000)
    sample = Sample(row.pk, at.timestamp(), "GET", "/v1/a", 500 if error else 200, error, ms, 1, "req_of_the_tests")
    usage.keep(lambda: sample, is_error=bool(error), one_in=0)


def periods(row: ExternalApiConnection) -> list[tuple[str, str, int]]:
    found = CallPeriod.objects.filter(connection=row).order_by("step", "starts_at")
    return [(period.step, f"{period.starts_at:%d %H:%M}", period.figures["calls"]) for period in found]


class TestRollUp:
    def test_one_row_for_each_minute_hour_and_day(self) -> None:
        row = make_connection(tenant=make_tenant())
        for minutes in (0, 0, 1, 60):
            call(row, AT + timedelta(minutes=minutes), bytes_in=7)
        usage_rollup.roll_up()
        call(row, AT)
        usage_rollup.roll_up()
        assert periods(row) == [
            ("day", "04 00:00", 5),
            ("hour", "04 05:00", 4),
            ("hour", "04 06:00", 1),
            ("minute", "04 05:06", 3),
            ("minute", "04 05:07", 1),
            ("minute", "04 06:06", 1),
        ]
        day = CallPeriod.objects.get(connection=row, step="day")
        assert day.figures == {
            "calls": 5,
            "us": 500_000,
            bucket_name(0.1): 5,
            "status:2xx": 5,
            "bytes_in": 28,
        }
        assert day.tenant_id == row.tenant_id
        assert ProviderTotal.objects.get(external_api=row.external_api_id).figures == day.figures

    def test_a_provider_adds_up_its_connections(self) -> None:
        api = make_provider()
        for name in ("one", "two"):
            call(make_connection(api, slug=name), AT, error="CALL_TIMEOUT")
        usage_rollup.roll_up()
        assert ProviderTotal.objects.get(external_api=api).figures["error:CALL_TIMEOUT"] == 2

    def test_what_broke_off_after_its_commit_is_not_added_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        row = make_connection()
        call(row, AT, error="CALL_TIMEOUT")

        @contextmanager
        def never_forgotten() -> Iterator[usage.Batch]:
            with suppress(ZeroDivisionError), usage.drain() as batch:
                yield batch
                raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(usage_rollup, "drain", never_forgotten)
            usage_rollup.roll_up()
        usage_rollup.roll_up()
        assert [calls for _, _, calls in periods(row)] == [1, 1, 1]
        assert ObservedCall.objects.filter(connection=row).count() == 1

    def test_what_could_not_be_written_comes_again(self) -> None:
        row = make_connection()
        call(row, AT, error="CALL_TIMEOUT")

        def refuse(execute: Any, sql: str, *args: object) -> Any:
            if "observedcall" in sql and sql.lstrip().startswith("INSERT"):
                raise DatabaseError("gone")
            return execute(sql, *args)

        with connection.execute_wrapper(refuse), pytest.raises(DatabaseError):
            usage_rollup.roll_up()
        assert periods(row) == []
        usage_rollup.roll_up()
        assert len(periods(row)) == 3
        assert ObservedCall.objects.filter(connection=row).count() == 1

    def test_a_connection_keeps_its_latest_calls(self, settings: Any) -> None:
        settings.CALLS_KEPT = 3
        row, other = make_connection(), make_connection()
        call(other, AT, error="CALL_TIMEOUT")
        for number in range(5):
            call(row, AT + timedelta(seconds=number), error="CALL_TIMEOUT")
            if number == 1:
                usage_rollup.roll_up()
        usage_rollup.roll_up()
        kept = ObservedCall.objects.filter(connection=row)
        assert [f"{found.ended_at:%S}" for found in kept] == ["11", "10", "09"]
        assert ObservedCall.objects.filter(connection=other).count() == 1

    def test_good_calls_displace_no_failed_ones(self, settings: Any) -> None:
        settings.CALLS_KEPT = 3
        row, other = make_connection(), make_connection()
        call(row, AT, error="CALL_TIMEOUT")
        call(other, AT, error="CALL_TIMEOUT")
        for number in range(9):
            good = Sample(row.pk, AT.timestamp() + number, "GET", "/v1/b", 200, "", 5, 1, "req_of_the_tests")
            usage.keep(lambda good=good: good, is_error=False, one_in=1)  # type: ignore[misc]
        usage_rollup.roll_up()
        kept = ObservedCall.objects.filter(connection=row)
        assert [found.error for found in kept] == ["", "", "", "CALL_TIMEOUT"]

    def test_a_kept_call_is_its_connections_tenants(self) -> None:
        row = make_connection(tenant=make_tenant())
        call(row, AT, error="CALL_TIMEOUT")
        usage_rollup.roll_up()
        assert row.tenant_id
        assert ObservedCall.objects.get(connection=row).tenant_id == row.tenant_id

    def test_calls_of_what_was_purged_meanwhile_are_dropped(self) -> None:
        row = make_connection()
        gone = make_connection()
        call(gone, AT, error="CALL_TIMEOUT")
        call(row, AT)
        gone.credential.delete()
        ExternalApiConnection.objects.filter(pk=gone.pk).delete()
        assert usage_rollup.roll_up() == 1
        assert len(periods(row)) == 3
        assert not ObservedCall.objects.exists()

    def test_a_batch_takes_the_same_few_statements_for_any_number_of_connections(self) -> None:
        api = make_provider()

        def statements(count: int) -> int:
            for number in range(count):
                call(make_connection(api, slug=f"s{number}-{count}"), AT, error="CALL_TIMEOUT")
            with CaptureQueriesContext(connection) as queries:
                usage_rollup.roll_up()
            return len(queries)

        statements(1)  # makes the key that seals
        assert statements(2) == statements(12) <= 17

    def test_valkey_that_was_stopped_loses_no_more_than_that_time(self, settings: Any) -> None:
        """It forgets what it held; what is counted while it is away, and afterwards, arrives."""
        row = make_connection()
        url, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
        call(row, AT, error="CALL_TIMEOUT")
        assert not usage.flush()
        call(row, AT + timedelta(minutes=1))
        settings.REDIS_URL = url
        call(row, AT + timedelta(minutes=2))
        usage_rollup.roll_up()
        assert [calls for step, _, calls in periods(row) if step == "minute"] == [1, 1, 1]


class TestPruning:
    def test_each_step_has_its_age(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batches, "SIZE", 2)
        row, now = make_connection(), timezone.now()
        ages = [timedelta(hours=1), timedelta(hours=4), timedelta(days=15), timedelta(days=16), timedelta(days=401)]
        for age in ages:
            call(row, now - age, error="CALL_TIMEOUT")
        usage_rollup.roll_up()
        prune_usage()
        left = [step for step, _, _ in periods(row)]
        assert (left.count("minute"), left.count("hour")) == (1, 2)
        oldest = CallPeriod.objects.filter(connection=row).order_by("starts_at")[0]
        assert oldest.step == "day"
        assert oldest.starts_at.date() == (now - timedelta(days=16)).date()
        assert ObservedCall.objects.filter(connection=row).count() == 4
        assert usage_pruning.prune() == 0

    def test_how_long_is_a_setting(self, settings: Any) -> None:
        settings.METRICS_MINUTES_KEPT_HOURS, settings.METRICS_HOURS_KEPT_DAYS = 24, 1
        row, now = make_connection(), timezone.now()
        call(row, now - timedelta(hours=23))
        call(row, now - timedelta(hours=30))
        usage_rollup.roll_up()
        usage_pruning.prune()
        steps = [step for step, _, _ in periods(row)]
        assert (steps.count("minute"), steps.count("hour")) == (1, 1)

    def test_of_very_many_rows_only_the_old_ones_are_read(self) -> None:
        row = make_connection()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO connections_callperiod (connection_id, step, starts_at, figures)"
                " SELECT %s, 'minute', now() - n * interval '10 s', '{}' FROM generate_series(1, 20000) n",
                [row.pk],
            )
            cursor.execute(
                "INSERT INTO connections_providerperiod (external_api_id, step, starts_at, figures)"
                " SELECT %s, 'minute', now() - n * interval '10 s', '{}' FROM generate_series(1, 20000) n",
                [row.external_api_id],
            )
            cursor.execute(
                "INSERT INTO connections_observedcall (connection_id, ended_at, method, path, error, duration_ms,"
                " attempts, request_id) SELECT %s, now() - n * interval '1 h', 'GET', '/',"
                " CASE WHEN n %% 100 = 0 THEN 'X' ELSE '' END, 1, 1, '' FROM generate_series(1, 20000) n",
                [row.pk],
            )
            cursor.execute("ANALYZE connections_callperiod, connections_providerperiod, connections_observedcall")
        now = timezone.now()
        plans = [
            rows.filter(pk__gt=0)[:10].explain() if "observed" in rows.model._meta.db_table else rows[:10].explain()
            for rows in usage_pruning.outdated(now + timedelta(hours=-20))
        ]
        for name in ("call_period_by_age", "provider_period_by_age", "observed_call_by_age"):
            assert sum(name in plan for plan in plans) >= 1, plans
        failed = latest_calls(row).exclude(error="")[:10].explain()
        assert "observed_call_failed" in failed, failed


class TestProviders:
    def test_a_providers_figures_by_time_apart_for_each_tenant(self) -> None:
        api, tenant = make_provider(), make_tenant()
        mine, other, nobodys = make_connection(api, tenant=tenant), make_connection(api, tenant=make_tenant()), None
        nobodys = make_connection(api, slug="nobodys")
        for row in (mine, other, nobodys, nobodys):
            call(row, AT, bytes_in=7)
        usage_rollup.roll_up()
        call(nobodys, AT + timedelta(minutes=1))
        usage_rollup.roll_up()
        found = ProviderPeriod.objects.filter(external_api=api, step="hour")
        assert {(period.tenant_id, period.figures["calls"]) for period in found} == {
            (mine.tenant_id, 1),
            (other.tenant_id, 1),
            (None, 3),
        }
        query = {"step": "minute", "from": "2026-03-04T05:06:00Z", "to": "2026-03-04T06:00:00Z"}

        def shown(key: Any, reference: str) -> list[int]:
            url = f"{EXTERNAL}/providers/{reference}/metrics"
            return [period["calls"] for period in data_of(client_of(key.token).get(url, query))["periods"]]

        scopes = ["providers:read"]
        assert shown(make_key(scopes=scopes), api.pk) == [4, 1]
        assert shown(make_key(scopes=scopes), api.slug) == [4, 1]
        assert shown(make_key(scopes=scopes, tenant=tenant), api.pk) == [1]

    def test_who_may_not(self) -> None:
        api = make_provider(tenant=make_tenant())
        url = f"{EXTERNAL}/providers/{api.pk}/metrics"
        assert failure_of(client_of(make_key(scopes=["connections:read"]).token).get(url)) == (403, "FORBIDDEN")
        assert failure_of(client_of(make_key(tenant=make_tenant()).token).get(url))[0] == 404
        assert failure_of(client_of(make_key().token).get(url, {"step": "week"}))[0] == 400

    def test_the_admins_page(self) -> None:
        client, row = Client(), make_connection()
        client.force_login(make_user(is_superuser=True))
        call(row, timezone.now(), 0.1, "CALL_TIMEOUT")
        usage_rollup.roll_up()
        url = f"/admin/external_apis/externalapi/{quote(row.external_api_id)}/change/"
        with CaptureQueriesContext(connection) as queries:
            page = client.get(url).content.decode()
        assert sum("providerperiod" in query["sql"] for query in queries) == 1
        assert page.count("CALL_TIMEOUT: 1") == 2
        assert "Last failed calls" not in page


class TestRest:
    def test_figures(self) -> None:
        row, client = make_connection(), client_of(make_key(scopes=["connections:read"]).token)
        for seconds in (0.1, 0.1, 0.1, 4.0):
            call(row, AT, seconds, "CALL_TIMEOUT" if seconds > 1 else "", bytes_out=10, waits=1, wait_ms=500)
        call(row, AT + timedelta(minutes=1))
        usage_rollup.roll_up()
        url = f"{EXTERNAL}/connections/{row.pk}/metrics"
        with CaptureQueriesContext(connection) as queries:
            found = data_of(
                client.get(url, {"step": "minute", "from": "2026-03-04T05:06:00Z", "to": "2026-03-04T06:00:00Z"})
            )
        assert len(queries) <= 5
        assert [period["startsAt"] for period in found["periods"]] == [
            "2026-03-04T05:06:00.000Z",
            "2026-03-04T05:07:00.000Z",
        ]
        total = found["total"]
        assert (total["calls"], total["errors"], total["errorsByCode"]) == (5, 1, {"CALL_TIMEOUT": 1})
        assert total["answersByStatus"] == {"2xx": 4, "5xx": 1}
        assert total["p50Ms"] == pytest.approx(100, rel=0.1)
        assert total["p99Ms"] == pytest.approx(4000, rel=0.1)
        assert total["meanMs"] == 880
        assert (total["rateLimitWaits"], total["rateLimitWaitSeconds"], total["bytesOut"]) == (4, 2, 40)
        assert found["periods"][1]["calls"] == 1
        hours = data_of(client.get(url, {"step": "hour", "from": "2026-03-04T00:00:00Z", "to": "2026-03-05T00:00:00Z"}))
        assert [period["calls"] for period in hours["periods"]] == [5]
        assert data_of(client.get(url))["total"]["p50Ms"] is None

    @pytest.mark.parametrize(
        "query",
        [
            {"step": "week"},
            {"from": "yesterday"},
            {"from": "2026-03-04T05:06:00"},
            {"from": "2026-03-05T00:00:00Z", "to": "2026-03-04T00:00:00Z"},
            {"to": "0001-01-01T00:00:00+14:00"},
            {"from": "0001-01-01T00:00:00+14:00"},
            {"to": "9999-12-31T23:59:59-14:00"},
            {"other": "1"},
        ],
    )
    def test_a_query_that_makes_no_sense(self, query: dict[str, str]) -> None:
        row, client = make_connection(), client_of(make_key().token)
        assert failure_of(client.get(f"{EXTERNAL}/connections/{row.pk}/metrics", query))[0] == 400

    def test_kept_calls(self) -> None:
        row, client = make_connection(), client_of(make_key(scopes=["connections:read"]).token)
        for number in range(3):
            call(row, AT + timedelta(seconds=number), error="CALL_TIMEOUT")
        good = Sample(row.pk, AT.timestamp() + 9, "GET", "/v1/b", 200, "", 5, 1, "req_of_the_tests")
        usage.keep(lambda: good, is_error=False, one_in=1)
        usage_rollup.roll_up()
        url = f"{EXTERNAL}/connections/{row.pk}/calls"
        first = data_of(client.get(url))
        assert [item["path"] for item in first] == ["/v1/b", "/v1/a", "/v1/a", "/v1/a"]
        assert first[1] == {
            "endedAt": "2026-03-04T05:06:09.000Z",
            "method": "GET",
            "path": "/v1/a",
            "status": 500,
            "error": "CALL_TIMEOUT",
            "durationMs": 100,
            "attempts": 1,
            "requestId": "req_of_the_tests",
        }
        assert len(data_of(client.get(url, {"failed": "true", "perPage": "2"}))) == 2
        assert [item["error"] for item in data_of(client.get(url, {"failed": "false"}))] == [""]

    @pytest.mark.parametrize("page", ["metrics", "calls"])
    def test_who_may_not(self, page: str) -> None:
        row, tenant = make_connection(tenant=make_tenant()), make_tenant()
        url = f"{EXTERNAL}/connections/{row.pk}/{page}"
        assert failure_of(client_of(make_key(scopes=["providers:read"]).token).get(url)) == (403, "FORBIDDEN")
        assert failure_of(client_of(make_key(tenant=tenant).token).get(url)) == (404, "NOT_FOUND")
        assert failure_of(client_of(make_key(tenant=row.tenant).token).get(url.replace(row.pk, "conn_none")))[0] == 404
        assert data_of(client_of(make_key(tenant=row.tenant).token).get(url)) is not None


def test_figures_and_calls_are_those_of_one_connection_up_to_now() -> None:
    row, other, now = make_connection(), make_connection(), timezone.now()
    call(row, now, error="CALL_TIMEOUT")
    for _ in range(3):
        call(other, now, error="CALL_TIMEOUT")
    usage_rollup.roll_up()
    CallPeriod.objects.create(connection=row, step="minute", starts_at=now + timedelta(hours=1), figures={"calls": 9})
    CallPeriod.objects.create(connection=row, step="hour", starts_at=now + timedelta(hours=1), figures={"calls": 9})
    hour, day = recent_figures(periods_of(row), timezone.now())
    assert (hour.calls, day.calls) == (1, 1)
    assert [found.connection_id for found in latest_calls(row)] == [row.pk]


def test_the_admins_page_shows_figures_and_failures_in_two_queries_more() -> None:
    client, row = Client(), make_connection()
    client.force_login(make_user(is_superuser=True))
    url = f"/admin/connections/externalapiconnection/{quote(row.pk)}/change/"
    now = timezone.now()
    for _ in range(12):
        call(row, now - timedelta(minutes=1), 0.1, "CALL_TIMEOUT")
    call(row, now - timedelta(hours=3), 0.1)
    usage_rollup.roll_up()
    with CaptureQueriesContext(connection) as queries:
        page = client.get(url).content.decode()
    assert sum("call_period" in query["sql"] or "callperiod" in query["sql"] for query in queries) == 1
    assert sum("observedcall" in query["sql"] for query in queries) == 1
    assert "Last failed calls" in page
    assert page.count("GET /v1/a") == 10
    cells = re.findall(r"<td[^>]*>(\d+)(?:<div>CALL_TIMEOUT: 12</div>)?</td>", page)
    assert cells[:2] == ["12", "12"]
    assert "13" in cells


class TestPrometheus:
    @pytest.fixture(autouse=True)
    def _on(self, settings: Any) -> None:
        settings.METRICS_TOKEN = TOKEN

    def scrape(self, **headers: str) -> Any:
        return Client().get("/metrics", headers=headers or {"Authorization": f"Bearer {TOKEN}"})

    def samples(self) -> dict[str, float]:
        text = self.scrape().content.decode()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        for line in lines:
            assert re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+-]+', line), line
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def test_it_is_off_without_a_token(self, settings: Any) -> None:
        settings.METRICS_TOKEN = ""
        assert self.scrape(Authorization="Bearer ").status_code == 404

    @pytest.mark.parametrize("sent", ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer é"])
    def test_a_wrong_token(self, sent: str) -> None:
        answer = self.scrape(Authorization=sent)
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
        assert b"eam_" not in answer.content
        assert Client().post("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 405

    def test_what_was_counted(self) -> None:
        row = make_connection(make_provider(slug="acme"))
        for seconds in (0.001, 0.1, 0.1, 500.0):
            call(row, AT, seconds, "CALL_TIMEOUT" if seconds > 1 else "", bytes_out=10, waits=1, wait_ms=1500)
        usage_rollup.roll_up()
        found = self.samples()
        assert found['eam_calls_total{provider="acme"}'] == 4
        assert found['eam_call_errors_total{provider="acme",code="CALL_TIMEOUT"}'] == 1
        assert found['eam_call_answers_total{provider="acme",status="2xx"}'] == 3
        assert found['eam_rate_limit_waits_total{provider="acme"}'] == 4
        assert found['eam_rate_limit_wait_seconds_total{provider="acme"}'] == 6
        assert found['eam_sent_bytes_total{provider="acme"}'] == 40
        counts = [value for name, value in found.items() if name.startswith("eam_call_duration_seconds_bucket")]
        assert counts == sorted(counts)
        assert found['eam_call_duration_seconds_bucket{provider="acme",le="0.0016"}'] == 1
        assert found['eam_call_duration_seconds_bucket{provider="acme",le="0.0512"}'] == 1
        assert found['eam_call_duration_seconds_bucket{provider="acme",le="0.1024"}'] == 3
        assert found['eam_call_duration_seconds_bucket{provider="acme",le="+Inf"}'] == 4
        assert found['eam_call_duration_seconds_sum{provider="acme"}'] == 500.201
        assert found["eam_refreshes_overdue"] == 0
        assert "eam_queue_tasks" in found
        assert 'eam_process_up{process="worker"}' in found
        assert any(name.startswith("process_resident_memory_bytes") for name in found)
        assert not any(row.pk in name for name in found)

    def test_a_grant_of_what_is_deleted_is_not_overdue(self) -> None:
        now = timezone.now()
        rows = [make_connection(), make_connection()]
        for row in rows:
            Grant.objects.update_or_create(connection=row, defaults={"due_at": now - timedelta(minutes=5)})
        assert self.samples()["eam_refreshes_overdue"] == 2
        ExternalApiConnection.objects.filter(pk=rows[0].pk).update(deleted_at=now)
        assert self.samples()["eam_refreshes_overdue"] == 1

    def test_by_connection_where_asked_and_with_the_same_few_queries(self, settings: Any) -> None:
        settings.METRICS_BY_CONNECTION = True
        row = make_connection(make_provider(slug="acme"))
        call(row, AT)
        usage_rollup.roll_up()
        assert self.samples()[f'eam_connection_calls_total{{provider="acme",connection="{row.pk}"}}'] == 1
        with CaptureQueriesContext(connection) as few:
            self.scrape()
        make_connection(make_provider())
        with CaptureQueriesContext(connection) as more:
            self.scrape()
        assert len(more) == len(few) <= 3

    def test_valkey_away(self, settings: Any) -> None:
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        found = self.samples()
        assert "eam_queue_tasks" not in found
        assert "eam_refreshes_overdue" in found
