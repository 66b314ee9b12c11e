"""What calls of AI models used: rolled up once, and told step by step, also where days begin at a quarter to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice.ai_usage_rollup import roll_up
from external_apis.backoffice.models import AiCall, AiUsageSum
from external_apis.backoffice.periods import Grain, floor
from external_apis.models import Tenant
from tests.ai_models import make_ai_model
from tests.envelope import EXTERNAL, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant, make_user
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
USAGE = f"{EXTERNAL}/analytics/usage"
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def make_call(at: datetime, total: int = 10, tenant: Tenant | None = None, **ids: str) -> None:
    AiCall.objects.create(
        tenant=tenant,
        at=at,
        model_id=ids.get("model", "aim_1"),
        account_id=ids.get("user", ""),
        connection_id=ids.get("connection", "conn_1"),
        prompt_tokens=total - 1,
        completion_tokens=1,
        total_tokens=total,
    )


def ask(client: RestClient, **query: Any) -> Any:
    return data_of(client.get(USAGE, query))


@pytest.fixture
def client() -> RestClient:
    return client_of(make_key(scopes=["analytics:read"]).token)


def test_steps_and_shares(client: RestClient) -> None:
    make_call(NEW_YEAR, 10, user="user_1")
    make_call(NEW_YEAR + timedelta(hours=23, minutes=59), 20, model="aim_2", user="user_2")
    make_call(NEW_YEAR + timedelta(days=2), 5, connection="conn_2", user="user_1")
    make_call(NEW_YEAR - timedelta(microseconds=1), 1_000)
    make_call(NEW_YEAR + timedelta(days=3), 1_000)
    assert roll_up() == 5
    assert not AiCall.objects.exists()
    query = {"from": "2026-01-01", "to": "2026-01-03"}
    report = ask(client, **query)
    assert [(step["day"], step["calls"], step["totalTokens"]) for step in report["series"]] == [
        ("2026-01-01", 2, 30),
        ("2026-01-02", 0, 0),
        ("2026-01-03", 1, 5),
    ]
    assert report["series"][0]["startsAt"] == "2026-01-01T00:00:00.000Z"
    assert report["total"] == {"calls": 3, "promptTokens": 32, "completionTokens": 3, "totalTokens": 35}
    shares = {
        by: [(share["id"], share["totalTokens"]) for share in ask(client, by=by, **query)["breakdown"]]
        for by in ("model", "user", "connection")
    }
    assert shares == {
        "model": [("aim_2", 20), ("aim_1", 15)],
        "user": [("user_2", 20), ("user_1", 15)],
        "connection": [("conn_1", 30), ("conn_2", 5)],
    }
    assert (report["by"], report["step"], report["timeZone"]) == ("model", "day", "UTC")
    first = ask(client, perPage=1, **query)
    assert ([share["id"] for share in first["breakdown"]], first["hasNext"]) == (["aim_2"], True)
    second = ask(client, perPage=1, page=2, **query)
    assert ([share["id"] for share in second["breakdown"]], second["hasNext"]) == (["aim_1"], False)


def test_one_user_model_or_connection(client: RestClient) -> None:
    make_call(NEW_YEAR, 10, user="user_1")
    make_call(NEW_YEAR + timedelta(days=1), 20, model="aim_2", user="user_2", connection="conn_2")
    roll_up()
    query = {"from": "2026-01-01", "to": "2026-01-02"}
    for name, value in (("userId", "user_2"), ("modelId", "aim_2"), ("connectionId", "conn_2")):
        report = ask(client, **query, **{name: value})
        assert [step["totalTokens"] for step in report["series"]] == [0, 20]
        assert [share["id"] for share in report["breakdown"]] == [value]
        assert report["by"] == name.removesuffix("Id")
    for name, value in (("userId", "user_0"), ("modelId", "aim_0"), ("connectionId", "conn_0")):
        assert failure_of(client.get(USAGE, {**query, name: value})) == (404, "NOT_FOUND")
    for wrong, field in (
        ({"userId": "user_1", "by": "model"}, "userId"),
        ({"userId": "user_1", "modelId": "aim_1"}, "modelId"),
        ({"by": "day"}, "by"),
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "to"),
        ({"perPage": "101"}, "perPage"),
        ({"userId": "a b"}, "userId"),
    ):
        answer = client.get(USAGE, wrong)
        assert failure_of(answer) == (400, "VALIDATION_ERROR")
        assert named_by(answer) == [field]


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Australia/Eucla", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("step", ["day", "week", "month"])
def test_steps_begin_where_the_zone_has_them(client: RestClient, zone: str, step: str) -> None:
    """Calls around each step's borders fall where their local time says."""
    query = {"from": "2026-03-25", "to": "2026-04-03", "timeZone": zone, "step": step}
    borders = [datetime.fromisoformat(item["startsAt"]) for item in ask(client, **query)["series"]]
    for border in borders:
        make_call(border - timedelta(seconds=1), 2)
        make_call(border, 100)
    roll_up()
    report = ask(client, **query)
    amounts = [item["totalTokens"] for item in report["series"]]
    assert amounts == [102] * (len(borders) - 1) + [100]
    assert report["breakdown"][0]["totalTokens"] == report["total"]["totalTokens"] == sum(amounts)


def test_a_tenant_sees_its_own(client: RestClient) -> None:
    mine, other = make_tenant(), make_tenant()
    make_call(NEW_YEAR, 1, mine, user="user_1")
    make_call(NEW_YEAR, 10, other, user="user_2")
    make_call(NEW_YEAR, 100)
    roll_up()
    query = {"from": "2026-01-01", "to": "2026-01-01"}
    bound = client_of(make_key(tenant=mine).token)
    report = ask(bound, by="user", **query)
    assert (report["total"]["totalTokens"], [share["id"] for share in report["breakdown"]]) == (1, ["user_1"])
    rows = {holder: (make_ai_model(holder), make_user(tenant=holder)) for holder in (mine, make_tenant())}
    for holder, (model, user) in rows.items():
        for name, row in (("modelId", model), ("userId", user.external_apis_account)):
            answer = bound.get(USAGE, {name: row.pk})
            assert answer.status_code == (200 if holder == mine else 404)
            assert ask(client, **{name: row.pk})["total"]["calls"] == 0
    for name in ("user_2", "user_0"):
        assert failure_of(bound.get(USAGE, {"userId": name})) == (404, "NOT_FOUND")
    # One that is gone is known by its figures, to those whose they are.
    assert ask(bound, userId="user_1", **query)["total"]["calls"] == 1
    assert ask(client, **query)["total"]["totalTokens"] == 111
    assert ask(client, **query)["breakdown"][0]["totalTokens"] == 111
    assert failure_of(client_of(make_key(scopes=["models:read"]).token).get(USAGE)) == (403, "FORBIDDEN")
    sandbox = ask(client_of(make_key(mode="test").token), **query)
    assert (sandbox["total"]["calls"], sandbox["breakdown"]) == (0, [])
    assert failure_of(client_of(make_key(mode="test").token).get(USAGE, {"userId": "user_1"})) == (404, "NOT_FOUND")
    other.delete()
    assert not AiUsageSum.objects.filter(subject="user_2").exists()


def test_a_broken_off_roll_up_adds_nothing_twice() -> None:
    make_call(NEW_YEAR)
    with transaction.atomic():
        assert roll_up() == 1
        transaction.set_rollback(True)
    assert AiCall.objects.count() == 1
    assert roll_up() == 1
    assert roll_up() == 0
    make_call(NEW_YEAR)
    roll_up()
    sums = AiUsageSum.objects.filter(dimension="model").values_list("grain", "calls", "starts_at")
    assert set(sums) == {(grain.value, 2, NEW_YEAR) for grain in Grain}


def test_sums_begin_where_they_are_looked_for() -> None:
    moments = [NEW_YEAR + number * timedelta(days=1, minutes=17) for number in range(60)]
    for number, moment in enumerate(moments):
        make_call(moment, model=f"aim_{number}")
    roll_up()
    sums = AiUsageSum.objects.filter(dimension="model").values_list("subject", "grain", "starts_at")
    expected = {(f"aim_{n}", grain.value, floor(moment, grain)) for n, moment in enumerate(moments) for grain in Grain}
    assert set(sums) == expected


@pytest.mark.django_db(transaction=True)
def test_roll_ups_at_once_count_each_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("external_apis.backoffice.ai_usage_rollup._AT_ONCE", 7)
    for number in range(60):
        make_call(NEW_YEAR + timedelta(minutes=number), user=f"user_{number % 3}")

    def run(_: int) -> int:
        try:
            return roll_up()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as threads:
        counts = list(threads.map(run, range(6)))
    assert sum(counts) + roll_up() == 60
    day = AiUsageSum.objects.get(dimension="installation", grain="day")
    assert (day.calls, day.total_tokens) == (60, 600)
    assert sum(AiUsageSum.objects.filter(dimension="user", grain="quarter").values_list("calls", flat=True)) == 60


def test_queries_are_two_whatever_is_asked(client: RestClient) -> None:
    for number in range(30):
        make_call(NEW_YEAR + timedelta(days=number), model=f"aim_{number}")
    roll_up()
    counts = set()
    for query in ({"to": "2026-01-01"}, {"from": "2025-01-01", "to": "2026-01-30", "timeZone": "Asia/Kathmandu"}):
        ask(client, **query)
        with CaptureQueriesContext(connection) as queries:
            ask(client, **query)
        counts.add(sum("ai" in item["sql"] and "usagesum" in item["sql"] for item in queries))
    assert counts == {2}
