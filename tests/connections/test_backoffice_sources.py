"""What connections give to the backoffice's statistics: each call once, and what waits for a worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from connections import usage_rollup
from connections.client import usage
from connections.models import CallPeriod, WorkflowRun
from external_apis.backoffice.models import OverviewSum
from external_apis.backoffice.resources import measure
from tests.factories import make_connection, make_provider, make_tenant
from tests.workflow_runs import make_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_counters() -> Iterator[None]:
    with usage.drain():
        pass
    yield
    with usage.drain():
        pass


def sums(grain: str = "month") -> dict[tuple[str | None, str], int]:
    found = OverviewSum.objects.filter(grain=grain).values_list("tenant_id", "figure", "number")
    return {(tenant_id, figure): int(number) for tenant_id, figure, number in found}


def test_calls_of_tenants_and_of_the_installation_without_the_sandbox() -> None:
    mine = make_tenant()
    own, shared = make_connection(tenant=mine), make_connection()
    sandbox = make_connection(make_provider(is_sandbox=True))
    moment = int(datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC).timestamp())
    for row, errors in ((own, 1), (own, 0), (shared, 1), (sandbox, 1)):
        usage.record(row.pk, {"calls": 1, "errors": errors}, at=moment)
    usage.record(own.pk, {"calls": 1}, at=moment + 60)
    usage_rollup.roll_up()
    assert sums() == {
        (mine.pk, "calls"): 3, (mine.pk, "errors"): 1, (None, "calls"): 4, (None, "errors"): 2,
    }  # fmt: skip
    day = OverviewSum.objects.filter(tenant=None, grain="day", figure="calls").order_by("starts_at")
    assert [(row.starts_at.day, int(row.number)) for row in day] == [(1, 3), (2, 1)]
    quarter = OverviewSum.objects.filter(tenant=None, grain="quarter", figure="calls").earliest("starts_at")
    assert quarter.starts_at == datetime(2026, 3, 1, 23, 45, tzinfo=UTC)
    usage_rollup.roll_up()
    usage.record(own.pk, {"calls": 1}, at=moment)
    usage_rollup.roll_up()
    assert sums()[None, "calls"] == 5


def test_a_batch_that_fails_here_is_added_nowhere_and_later_once() -> None:
    row = make_connection()
    usage.record(row.pk, {"calls": 1}, at=int(timezone.now().timestamp()))

    def refuse(execute: Any, sql: str, *args: Any) -> Any:
        if OverviewSum._meta.db_table in sql:
            raise DatabaseError("gone")
        return execute(sql, *args)

    with connection.execute_wrapper(refuse), pytest.raises(DatabaseError):
        usage_rollup.roll_up()
    assert not CallPeriod.objects.exists()
    usage_rollup.roll_up()
    assert sums() == {(None, "calls"): 1}


def test_where_the_backoffice_is_off_nothing_is_summed_up(settings: Any) -> None:
    settings.BACKOFFICE_ENABLED = False
    usage.record(make_connection().pk, {"calls": 1}, at=int(timezone.now().timestamp()))
    usage_rollup.roll_up()
    assert CallPeriod.objects.exists()
    assert not OverviewSum.objects.exists()


def test_rows_that_wait_for_a_worker() -> None:
    due, later = make_run(), make_run()
    WorkflowRun.objects.filter(pk=due.pk).update(due_at=timezone.now() - timedelta(minutes=1))
    WorkflowRun.objects.filter(pk=later.pk).update(due_at=timezone.now() + timedelta(minutes=1))
    assert measure()["due"].figures == {
        "token_renewals": 0, "webhook_events": 0, "webhook_deliveries": 0, "workflow_runs": 1,
    }  # fmt: skip
