"""The overview: figures worked out by hand, in zones with another midnight, across a change of the clock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from external_apis import tenants
from external_apis.backoffice import plans
from external_apis.backoffice.models import MOST_TOKENS, OverviewCount, OverviewSum, PlanPeriod
from external_apis.backoffice.overview import prune_overview, roll_up_overview
from external_apis.backoffice.overview_counts import note_counts
from external_apis.backoffice.overview_sums import add_numbers
from external_apis.backoffice.periods import Grain
from external_apis.backoffice.revenue import accrue_revenue
from external_apis.models import Account, ApiKey, AuditEvent, Tenant
from tests.backoffice_users import make_plan, make_session
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_connection, make_key, make_provider, make_tenant, make_user
from tests.rest import with_key

pytestmark = pytest.mark.django_db
URL = f"{EXTERNAL}/analytics/overview"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(client: Any = None, **query: str) -> dict[str, Any]:
    query = {"from" if name == "since" else name: value for name, value in query.items()}
    found: dict[str, Any] = data_of((client or with_key()).get(URL, query))
    return found


def steps_of(told: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(step[name] for name in names) for step in told["series"]]


def make_period(
    started: str, ended: str | None, price: int, tenant: Tenant | None = None, currency: str = "EUR"
) -> None:
    user = User.objects.create_user(f"user-{User.objects.count()}")
    PlanPeriod.objects.create(
        account=Account.objects.get(user=user), tenant=tenant, plan="professional", price_minor=price,
        currency=currency, started_at=at(started), ended_at=None if ended is None else at(ended),
    )  # fmt: skip


# --- calls --------------------------------------------------------------------------------------------------------


def test_days_in_berlin_on_the_day_that_has_23_hours() -> None:
    """2026-03-29 in Berlin lasts from 23:00 UTC the day before to 22:00 UTC."""
    add_numbers(
        {
            (None, at("2026-03-28T22:59:59"), "calls"): 1,
            (None, at("2026-03-28T23:00:00"), "calls"): 20,
            (None, at("2026-03-29T21:59:59"), "calls"): 300,
            (None, at("2026-03-29T22:00:00"), "calls"): 4000,
            (None, at("2026-03-29T22:00:00"), "errors"): 7,
        }
    )
    told = asked(since="2026-03-28", to="2026-03-30", timeZone="Europe/Berlin")
    assert steps_of(told, "day", "startsAt", "endsAt", "calls", "errors") == [
        ("2026-03-28", "2026-03-27T23:00:00.000Z", "2026-03-28T23:00:00.000Z", 1, 0),
        ("2026-03-29", "2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z", 320, 0),
        ("2026-03-30", "2026-03-29T22:00:00.000Z", "2026-03-30T22:00:00.000Z", 4000, 7),
    ]
    assert told["calls"] == {"value": 4321, "previous": 0, "change": 4321, "changePercent": None}
    utc = asked(since="2026-03-28", to="2026-03-30")
    assert steps_of(utc, "calls") == [(21,), (4300,), (0,)]


def test_days_in_kathmandu_begin_at_a_quarter() -> None:
    """5:45 ahead: 2026-01-02 there begins at 18:15 UTC the day before."""
    add_numbers({(None, at(f"2026-01-01T18:{minute}:00"), "calls"): 1 for minute in ("14", "15", "16")})
    told = asked(since="2026-01-01", to="2026-01-02", timeZone="Asia/Kathmandu")
    assert steps_of(told, "day", "calls") == [("2026-01-01", 1), ("2026-01-02", 2)]


def test_weeks_and_months_and_the_change() -> None:
    """February 2026 has 28 days: before it lie those from 2026-01-04 on."""
    add_numbers(
        {
            (None, at("2026-01-03T23:59:00"), "calls"): 1000,
            (None, at("2026-01-04T00:00:00"), "calls"): 8,
            (None, at("2026-02-01T12:00:00"), "calls"): 4,
            (None, at("2026-02-28T12:00:00"), "calls"): 5,
            (None, at("2026-02-28T12:00:00"), "errors"): 1,
            (None, at("2026-01-31T12:00:00"), "errors"): 4,
        }
    )
    monthly = asked(since="2026-02-01", to="2026-02-28", step="month")
    assert steps_of(monthly, "day", "calls", "errors") == [("2026-02-01", 9, 1)]
    assert monthly["calls"] == {"value": 9, "previous": 8, "change": 1, "changePercent": 12.5}
    assert monthly["errors"] == {"value": 1, "previous": 4, "change": -3, "changePercent": -75.0}
    weekly = asked(since="2026-02-01", to="2026-02-28", step="week")
    assert steps_of(weekly, "day", "calls") == [
        ("2026-02-01", 4), ("2026-02-02", 0), ("2026-02-09", 0), ("2026-02-16", 0), ("2026-02-23", 5),
    ]  # fmt: skip


def test_a_tenant_sees_its_own_and_the_installation_all() -> None:
    mine, theirs = make_tenant(), make_tenant()
    noon = at("2026-02-01T12:00:00")
    add_numbers({(mine.pk, noon, "calls"): 1, (theirs.pk, noon, "calls"): 20, (None, noon, "calls"): 300})
    day = {"since": "2026-02-01", "to": "2026-02-01"}
    assert asked(**day)["calls"]["value"] == 321
    assert asked(client_of(make_key(tenant=mine).token), **day)["calls"]["value"] == 1
    assert asked(client_of(make_key(tenant=make_tenant()).token), **day)["calls"]["value"] == 0
    assert asked(client_of(make_key(mode="test").token), **day)["calls"]["value"] == 0
    add_numbers({("ten_gone", noon, "calls"): 5})  # its tenant was deleted since
    assert asked(**day)["calls"]["value"] == 326


# --- users and connections ----------------------------------------------------------------------------------------


def test_how_many_users_there_were() -> None:
    mine = make_tenant()
    Account.objects.all().delete()
    with time_machine.travel(at("2026-02-01T10:30:00"), tick=False):
        first = make_user(tenant=mine)
        make_user()
        Account.objects.update(created_at=at("2026-02-01T10:30:00"))
    note_counts(at("2026-02-03T08:00:00"))  # the first time: they were there since the first day
    first.delete()
    note_counts(at("2026-02-04T00:00:00"))  # at midnight: no longer the third day
    note_counts(at("2026-02-05T09:00:00"))  # nothing is new
    told = asked(since="2026-01-31", to="2026-02-05")
    assert [users for (users,) in steps_of(told, "users")] == [0, 2, 2, 2, 1, 1]
    assert told["users"] == {"value": 1, "previous": 0, "change": 1, "changePercent": None}
    own = asked(client_of(make_key(tenant=mine).token), since="2026-02-01", to="2026-02-04")
    assert [users for (users,) in steps_of(own, "users")] == [1, 1, 1, 0]
    later = asked(since="2026-02-03", to="2026-02-04")
    assert later["users"] == {"value": 1, "previous": 2, "change": -1, "changePercent": -50.0}
    # A row is written where a number is another one, and nowhere else.
    assert OverviewCount.objects.filter(figure="users", tenant=None).count() == 2


@pytest.mark.parametrize(
    ("zone", "made"),
    [
        ("UTC", "2026-02-01T23:30:00"), ("UTC", "2026-02-01T23:59:59"),
        ("Asia/Kathmandu", "2026-02-01T18:10:00"), ("Asia/Kathmandu", "2026-02-01T18:14:59"),
    ],
)  # fmt: skip
def test_whoever_was_made_before_midnight_is_of_that_day(zone: str, made: str) -> None:
    """In Kathmandu 2026-02-01 ends at 18:15 UTC."""
    Account.objects.all().delete()
    make_user()
    Account.objects.update(created_at=at(made))
    note_counts(at("2026-02-03T08:00:00"))
    told = asked(since="2026-01-31", to="2026-02-02", timeZone=zone)
    assert steps_of(told, "users") == [(0,), (1,), (1,)]


def test_a_superuser_is_none_of_a_tenants_users() -> None:
    mine = make_tenant()
    make_user(tenant=mine)
    make_user(tenant=mine, is_superuser=True)
    counts = []
    for client in (client_of(make_key(tenant=mine).token), with_key()):
        listed = checked(client.get(f"{EXTERNAL}/users"))["pagination"]["total"]
        note_counts(datetime.now(UTC))  # the history, then what there is now
        note_counts(datetime.now(UTC) + timedelta(seconds=1))
        counts.append((listed, asked(client)["users"]["value"]))
    assert counts == [(1, 1), (Account.objects.count(), Account.objects.count())]


def test_connections_of_the_sandbox_and_deleted_ones_do_not_count() -> None:
    mine = make_tenant()
    row = make_connection(tenant=mine)
    make_connection()
    make_connection(make_provider(is_sandbox=True))
    now = datetime.now(UTC)
    note_counts(now)
    assert asked()["connections"]["value"] == 2
    row.deleted_at = now
    row.save()
    note_counts(now + timedelta(seconds=1))
    assert asked()["connections"]["value"] == 1
    assert asked(client_of(make_key(tenant=mine).token))["connections"]["value"] == 0


# --- revenue ------------------------------------------------------------------------------------------------------


def test_revenue_accrues_evenly_over_thirty_days() -> None:
    mine = make_tenant()
    make_period("2026-01-01T00:00:00", "2026-01-31T00:00:00", 3000, mine)  # 100 a day
    make_period("2026-01-02T12:00:00", None, 6000)  # 200 a day
    make_period("2026-01-01T00:00:00", None, 0)
    make_period("2026-01-01T06:00:00", "2026-01-01T18:00:00", 3000, currency="USD")
    accrue_revenue(at("2026-01-03T00:07:00"))
    told = asked(since="2026-01-01", to="2026-01-04")
    eur, usd = ({"currency": name} for name in ("EUR", "USD"))
    assert [revenue for (revenue,) in steps_of(told, "revenue")] == [
        [eur | {"amountMinor": 100}, usd | {"amountMinor": 50}], [eur | {"amountMinor": 200}], [], [],
    ]  # fmt: skip
    accrue_revenue(at("2026-01-05T00:00:00"))
    told = asked(since="2026-01-03", to="2026-01-04")
    assert told["revenue"] == [
        {"currency": "EUR", "value": 600, "previous": 300, "change": 300, "changePercent": 100.0},
        {"currency": "USD", "value": 0, "previous": 50, "change": -50, "changePercent": -100.0},
    ]
    own = asked(client_of(make_key(tenant=mine).token), since="2026-01-01", to="2026-01-04")
    assert [item["value"] for item in own["revenue"]] == [400]


def test_revenue_of_a_day_that_begins_elsewhere() -> None:
    """In Kathmandu 2026-01-02 begins 18:15 UTC on the 1st: 5.75 hours of 3000 in 30 days are 23.96."""
    make_period("2026-01-01T00:00:00", "2026-01-02T00:00:00", 3000)
    accrue_revenue(at("2026-01-03T00:00:00"))
    told = asked(since="2026-01-01", to="2026-01-02", timeZone="Asia/Kathmandu")
    assert [revenue[0]["amountMinor"] for (revenue,) in steps_of(told, "revenue")] == [76, 24]


def test_revenue_is_added_once_however_often_it_is_asked_for() -> None:
    make_period("2026-01-01T00:00:10", None, 30 * 96)  # one in a quarter of an hour
    for moment in ("01:00", "01:00", "01:14", "01:16", "02:00"):
        accrue_revenue(at(f"2026-01-01T{moment}:00"))
    told = asked(since="2026-01-01", to="2026-01-01")
    assert told["revenue"][0]["value"] == 8
    quarters = OverviewSum.objects.filter(grain="quarter", tenant=None).order_by("starts_at")
    assert [int(row.number) for row in quarters[:2]] == [30 * 96 * 890, 30 * 96 * 900]


def test_whoever_moves_to_another_tenant_earns_there_from_then_on() -> None:
    """At the price of the day they came on the plan; the ledger and the sessions go along."""
    old, new = make_tenant(), make_tenant()
    account = make_user(tenant=old, is_staff=False).external_apis_account
    make_plan("professional", price_minor=3000)
    with time_machine.travel(at("2026-01-01T00:00:00"), tick=False):
        plans.change_plan(account, "professional")
        make_session(account)
    make_plan("professional", price_minor=9000)
    with time_machine.travel(at("2026-01-02T12:00:00"), tick=False):
        page = f"/admin/external_apis/account/{account.pk}/change/"
        operator = Client()
        operator.force_login(make_user(is_superuser=True))
        for _ in range(2):
            assert operator.post(page, {"plan": "professional", "tenant": new.pk}).status_code == 302
    assert AuditEvent.objects.get(action="account.updated").changes == {"tenant_id": [old.pk, new.pk]}
    accrue_revenue(at("2026-01-05T00:00:00"))
    clients = [client_of(make_key(tenant=tenant).token) for tenant in (old, new, None)]
    found = [asked(client, since="2026-01-01", to="2026-01-04")["revenue"][0]["value"] for client in clients]
    assert found == [150, 250, 400]
    User.objects.filter(username=account.user.username).delete()
    accrue_revenue(at("2026-01-06T00:00:00"))
    ApiKey.objects.filter(tenant__isnull=False).delete()
    for tenant in (old, new):  # nothing is left that names them
        tenants.delete(tenant)
    assert asked(since="2026-01-01", to="2026-01-04")["revenue"][0]["value"] == 400
    assert PlanPeriod.objects.filter(tenant=None, ended_at__isnull=False).count() == 2


def test_prices_of_any_size_are_earned() -> None:
    for _ in range(2):
        make_period("2026-01-01T00:00:00", "2026-01-31T00:00:00", MOST_TOKENS)
    accrue_revenue(at("2026-02-01T00:00:00"))
    assert asked(since="2026-01-01", to="2026-01-31")["revenue"][0]["value"] == 2 * MOST_TOKENS


def test_a_clock_that_was_set_back_earns_nothing_less() -> None:
    account = make_user(is_staff=False).external_apis_account
    for slug in ("free", "professional"):
        make_plan(slug, price_minor=3000)
    for moment, slug in (("02T12:00:00", "free"), ("02T11:00:00", "professional"), ("02T13:00:00", "free")):
        with time_machine.travel(at(f"2026-01-{moment}"), tick=False):
            plans.change_plan(account, slug)
    spans = PlanPeriod.objects.order_by("id").values_list("started_at", "ended_at")
    noon, later = at("2026-01-02T12:00:00"), at("2026-01-02T13:00:00")
    assert list(spans) == [(noon, noon), (noon, later), (later, None)]
    make_period("2026-01-02T18:00:00", "2026-01-02T06:00:00", 3000)
    accrue_revenue(at("2026-01-04T00:00:00"))
    assert asked(since="2026-01-02", to="2026-01-03")["revenue"][0]["value"] == 150


@pytest.mark.django_db(transaction=True)
def test_two_that_accrue_at_once_add_once() -> None:
    """The second one begins before the first one has committed, and waits for it."""
    make_period("2026-01-01T00:00:00", None, 30 * 96)
    accrue_revenue(at("2026-01-01T06:00:00"))

    def accrue() -> None:
        accrue_revenue(at("2026-01-02T00:00:00"))
        connection.close()

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            accrue_revenue(at("2026-01-02T00:00:00"))
            second = threads.submit(accrue)
            assert wait([second], timeout=0.2).not_done
        second.result(10)
    assert asked(since="2026-01-01", to="2026-01-02")["revenue"][0]["value"] == 96


# --- the whole of it ----------------------------------------------------------------------------------------------


def test_a_year_costs_the_queries_of_a_day() -> None:
    roll_up_overview(at("2026-06-01T12:00:00"))
    client, counts = with_key(), []
    for since in ("2026-06-01", "2025-06-02"):
        with CaptureQueriesContext(connection) as captured:
            asked(client, since=since, to="2026-06-01", timeZone="Asia/Kathmandu")
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 3


def test_old_sums_go_and_months_stay() -> None:
    add_numbers({(None, at("2024-01-10T00:00:00"), "calls"): 5, (None, at("2026-01-10T00:00:00"), "calls"): 5})
    assert prune_overview(at("2026-06-01T00:00:00")) == len(Grain) - 1
    assert OverviewSum.objects.count() == len(Grain) + 1
    assert asked(since="2024-01-01", to="2024-01-31", step="month")["calls"]["value"] == 5


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"from": "2026-02-30"}, "from"), ({"to": "yesterday"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "to"),
        ({"from": "2020-01-01", "to": "2026-02-01"}, "to"), ({"step": "hour"}, "step"),
        ({"timeZone": "Mars/Base"}, "timeZone"), ({"timeZone": "localtime"}, "timeZone"),
        ({"timeZone": "Factory"}, "timeZone"), ({"timeZone": "posixrules"}, "timeZone"),
        ({"timeZone": "../../etc/passwd"}, "timeZone"), ({"page": "1"}, "page"), ({"tenantId": "ten_1"}, "tenantId"),
    ],
)  # fmt: skip
def test_queries_that_are_refused(query: dict[str, str], named: str) -> None:
    response = with_key().get(URL, query)
    assert failure_of(response) == (400, "VALIDATION_ERROR")
    assert named_by(response) == [named]


def test_the_scope() -> None:
    assert failure_of(client_of(make_key(scopes=["users:read"]).token).get(URL)) == (403, "FORBIDDEN")
    assert asked(client_of(make_key(scopes=["analytics:read"]).token))["step"] == "day"
