"""Visits: who counts, what is kept of them, each exactly once, and how they are told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import time_machine
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, re_path

from external_apis import valkey
from external_apis.backoffice import visit_counting, visit_rollup, visit_store
from external_apis.backoffice.models import VisitBatch, VisitKind, VisitSum
from external_apis.backoffice.tasks import prune_visits, roll_up_visits
from external_apis.backoffice.visit_counting import Visit
from external_apis.errors import ServiceUnavailable
from external_apis.tenants import delete
from tests.envelope import EXTERNAL, client_of, data_of, failure_of
from tests.factories import make_key, make_tenant
from tests.rest import with_key

pytestmark = pytest.mark.django_db

TRACKING = f"{EXTERNAL}/analytics/tracking"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
NOW = datetime(2026, 3, 10, 12, 20, tzinfo=UTC)


def _page(request: HttpRequest, **_kwargs: str) -> HttpResponse:
    return HttpResponse(f"<p>{request.path}</p>")


def _data(request: HttpRequest) -> HttpResponse:
    return HttpResponse("{}", content_type="application/json")


urlpatterns = [
    path("invitations/<str:token>", _page),
    re_path(r"^reset/(?P<token>\w+)$", _page),
    path("data", _data),
    path("admin/stuff", _page),
    path("apiary", _page),
    path("administration/rules", _page),
    path("", include("config.urls")),
]


@pytest.fixture(autouse=True)
def _empty_counters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hands over when a test says so, and begins without what others have counted."""
    monkeypatch.setattr(visit_counting._Recorder, "every_seconds", 3600)
    monkeypatch.setattr(visit_counting, "_recorder", visit_counting._Recorder())
    for key in valkey.client().scan_iter(f"{valkey.PREFIX}{{visits}}:*"):
        valkey.client().delete(key)
    yield
    for key in valkey.client().scan_iter(f"{valkey.PREFIX}{{visits}}:*"):
        valkey.client().delete(key)


@pytest.fixture
def visitor(settings: Any) -> Client:
    settings.VISIT_COUNTING = True
    settings.ROOT_URLCONF = __name__
    return Client(headers={"User-Agent": BROWSER})


def counted() -> dict[str, Counter[str]]:
    """What this process has counted and not handed over, by kind and name."""
    found: dict[str, Counter[str]] = {kind.value: Counter() for kind in VisitKind}
    for item, number in visit_counting._recorder._sums.numbers.items():
        found[item.kind][item.name] += number
    return found


def visit(name: str = "/blog/a", referrer: str = "", *, tenant: Any = None, at: datetime = NOW) -> None:
    visit_counting.record(Visit(name, tenant and tenant.pk), referrer, at=at.timestamp())


# --- who counts -----------------------------------------------------------------------------------------------------


def test_nothing_is_counted_unless_switched_on(settings: Any) -> None:
    assert settings.VISIT_COUNTING is False
    Client(headers={"User-Agent": BROWSER}).get("/contact")
    assert not any(counted().values())
    settings.VISIT_COUNTING, settings.BACKOFFICE_ENABLED = True, False
    Client(headers={"User-Agent": BROWSER}).get("/contact")
    assert not any(counted().values())


def test_pages_are_counted_by_path_or_template_and_never_by_what_was_in_it(visitor: Client) -> None:
    make_tenant("shop")
    for address in ("/contact", "/contact?token=swordfish", "/contact/shop", "/invitations/swordfish"):
        assert visitor.get(address, headers={"Referer": "https://news.example/a?secret=swordfish"}).status_code == 200
    assert counted() == {
        "total": {"": 4},
        "path": {"/contact": 2, "/contact/shop": 1, "/invitations/{token}": 1},
        "referrer": {"news.example": 4},
    }
    assert "swordfish" not in repr(visit_counting._recorder._sums)


def test_what_is_no_visit(visitor: Client) -> None:
    """What is fetched ahead, APIs, the admin, files, failures, forms, and templates that tell too much."""
    visitor.get("/contact", headers={"Sec-Purpose": "prefetch"})
    visitor.head("/contact")
    visitor.post("/contact", {})
    for address in (
        "/data",
        "/healthz",
        "/admin/login/",
        "/admin/stuff",
        "/api/external/blogs",
        "/nowhere",
        "/reset/abc",
    ):
        visitor.get(address)
    assert not any(counted().values())


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (Linux; Android 13; CUBOT_P60) Chrome/126.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 10; CUBOT X30) Chrome/126.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Safari/604.1",
        "Mozilla/5.0 (Linux; Android 14; Scandinavia) Chrome/126.0.0.0 Safari/537.36",
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)",
        "Opera/9.80 (Android; Opera Mini/36.2/119.132; U; en) Presto/2.12.423 Version/12.16",
    ],
)
def test_people_count(visitor: Client, agent: str) -> None:
    visitor.get("/contact", headers={"User-Agent": agent})
    assert counted()["total"] == {"": 1}


@pytest.mark.parametrize(
    "agent",
    [
        "",
        "curl/8.5.0",
        "python-requests/2.32",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (Linux; Android 6.0.1) Chrome/126.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1)",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0)",
        "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/126.0.0.0 Safari/537.36",
        "Mozilla/5.0 (compatible; CensysInspect/1.1; +https://about.censys.io/)",
        "Mozilla/5.0 zgrab/0.x",
        "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) ExampleScanner/2.0",
        "Mozilla/5.0 (Macintosh) Safari/601.2.4 facebookexternalhit/1.1 Facebot",
        "Mozilla/5.0 (Linux; Android 10) Chrome/126.0.0.0 Mobile Safari/537.36 (compatible; Mediapartners-Google/2.1)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "WhatsApp/2.23.20.0",
        "Mediapartners-Google",
        "Scrapy/2.11 (+https://scrapy.org)",
        "PostmanRuntime/7.39.0",
        "Apache-HttpClient/4.5.14 (Java/17.0.11)",
        "GuzzleHttp/7",
        "Feedly/1.0 (+http://www.feedly.com/fetcher.html)",
        "ia_archiver (+http://www.alexa.com/site/help/webmasters)",
    ],
)
def test_programs_do_not(visitor: Client, agent: str) -> None:
    visitor.get("/contact", headers={"User-Agent": agent})
    assert not any(counted().values())


def test_a_path_is_apart_by_whole_segments(visitor: Client) -> None:
    for address in ("/apiary", "/administration/rules", "/admin/stuff"):
        visitor.get(address)
    assert counted()["path"] == {"/apiary": 1, "/administration/rules": 1}


@pytest.mark.parametrize(
    ("referer", "kept"),
    [
        ("", "(direct)"),
        ("https://News.Example:8443/path?q=1#f", "news.example"),
        ("https://ann:secret@news.example/", "news.example"),
        ("http://testserver/blog", None),
        ("http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://news.example./", "news.example"),
        ("javascript:alert(1)", "(other)"),
        ("android-app://com.example", "(other)"),
        ("https://10.1.2.3/wiki", "(other)"),
        ("https://[2001:db8::7]/", "(other)"),
        ("https://127.1/", "(other)"),
        ("https://0x7f.0.0.0x1/", "(other)"),
        ("https://localhost/", "(other)"),
        ("https://<script>.example/", "(other)"),
        ("https://a|b.example/", "(other)"),
        ("https://[broken/", "(other)"),
        ("https://büro.example/", "(other)"),
        (f"https://{'a' * 101}.example/", "(other)"),
        (f"https://news.example/{'a' * 5000}", "(other)"),
        ("\x00\x01", "(other)"),
    ],
)
def test_of_a_referrer_the_host_alone_is_kept(visitor: Client, referer: str, kept: str | None) -> None:
    visitor.get("/contact", headers={"Referer": referer.encode().decode("latin-1")})
    found = counted()
    assert found["total"] == {"": 1}
    assert found["referrer"] == ({kept: 1} if kept else {})


def test_a_page_costs_no_query_and_no_round_trip(visitor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(visit_store, "add", refuse)
    visitor.get("/contact")
    with CaptureQueriesContext(connection) as captured:
        answer = visitor.get("/contact", headers={"X-Forwarded-For": "203.0.113.9"})
    assert not captured.captured_queries
    assert set(answer.cookies) <= {"external_apis_csrf"}, "the form's own"
    assert counted()["path"] == {"/contact": 2}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_counting, "_MOST_SUMS", 10)
    for number in range(100):
        visit(f"/{number}", f"host-{number}.example")
    assert len(visit_counting._recorder._sums.numbers) <= 12
    found = counted()
    assert {kind: sum(names.values()) for kind, names in found.items()} == {"total": 100, "path": 100, "referrer": 100}
    assert found["path"]["(other)"] > 90


# --- each exactly once ----------------------------------------------------------------------------------------------


def sums(**filters: Any) -> dict[tuple[str, str], int]:
    rows = VisitSum.objects.filter(**filters).order_by("grain", "starts_at")
    return {(row.grain, row.starts_at.strftime("%d %H:%M")): row.visits for row in rows}


def test_all_grains_are_summed_up() -> None:
    for minutes in (0, 1, 16, 60, 24 * 60):
        visit(at=NOW - timedelta(minutes=minutes))
    with time_machine.travel(NOW, tick=False):
        assert visit_rollup.roll_up() == 5
        assert visit_rollup.roll_up() == 0
    assert sums(kind="path", name="/blog/a") == {
        ("day", "09 00:00"): 1,
        ("day", "10 00:00"): 4,
        ("hour", "09 12:00"): 1,
        ("hour", "10 11:00"): 1,
        ("hour", "10 12:00"): 3,
        ("month", "01 00:00"): 5,
        ("pentad", "06 00:00"): 5,
        ("quarter", "09 12:15"): 1,
        ("quarter", "10 11:15"): 1,
        ("quarter", "10 12:00"): 1,
        ("quarter", "10 12:15"): 2,
    }


def test_a_hand_over_whose_answer_is_lost_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = visit_store.add

    def lose_the_answer(*arguments: Any) -> None:
        real(*arguments)
        raise redis.TimeoutError

    visit()
    monkeypatch.setattr(visit_store, "add", lose_the_answer)
    assert visit_counting.flush() is False
    monkeypatch.setattr(visit_store, "add", real)
    visit()
    roll_up_visits()
    assert set(sums(kind="total").values()) == {2}


def test_a_roll_up_that_breaks_off_before_or_after_the_commit_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    visit()
    with monkeypatch.context() as patched:
        patched.setattr(visit_rollup, "_ADD", "SELECT 1 / 0, %s, %s, %s, %s, %s, %s")
        with pytest.raises(DatabaseError):
            visit_rollup.roll_up()
    assert not VisitSum.objects.exists()
    visit()  # this one waits for the next batch
    with monkeypatch.context() as patched:
        patched.setattr(visit_store, "forget", _raise)
        with pytest.raises(ServiceUnavailable):
            visit_rollup.roll_up()
    assert visit_rollup.roll_up() == 0, "the batch was applied already"
    assert visit_rollup.roll_up() == 1
    assert set(sums(kind="total").values()) == {2}
    assert VisitBatch.objects.count() == 2


def test_a_late_end_of_one_roll_up_forgets_no_batch_of_another() -> None:
    visit()
    visit_counting.flush()
    first = visit_store.take()
    assert first is not None
    visit_store.forget(first.batch_id)
    visit()
    visit_counting.flush()
    second = visit_store.take()
    assert second is not None
    visit_store.forget(first.batch_id)
    again = visit_store.take()
    assert again == second


def _raise(*_arguments: Any) -> None:
    raise ServiceUnavailable(valkey.UNAVAILABLE)


def test_what_many_invent_is_bounded_by_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_rollup, "NAMES_A_DAY", 5)
    tenant = make_tenant()
    for number in range(20):
        for _ in range(20 - number):
            visit("/blog/a", f"host-{number:02}.example")
        visit("/blog/a", f"host-{number}.example", tenant=tenant)
    roll_up_visits()
    visit("/blog/a", "host-00.example")
    visit("/blog/a", "late.example")
    roll_up_visits()
    found = dict(VisitSum.objects.filter(kind="referrer", grain="day", tenant=None).values_list("name", "visits"))
    assert found == {
        "host-00.example": 21,
        "host-01.example": 19,
        "host-02.example": 18,
        "host-03.example": 17,
        "host-04.example": 16,
        "(other)": 120 + 1,
    }
    assert VisitSum.objects.filter(kind="referrer", grain="day", tenant=tenant).count() == 6


def test_of_one_batch_the_largest_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_rollup, "NAMES_A_DAY", 1)
    for name in ("/a", *["/z"] * 9):
        visit(name)
    roll_up_visits()
    found = dict(VisitSum.objects.filter(kind="path", grain="day").values_list("name", "visits"))
    assert found == {"/z": 9, "(other)": 1}


def test_what_waits_in_valkey_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = visit_store._ADD.replace(str(visit_store._MOST_NAMED), "5").replace(str(visit_store._MOST_SUMS), "8")
    monkeypatch.setattr(visit_store, "_ADD", bounded)
    for number in range(30):
        visit(f"/{number}")
    visit_counting.flush()
    taken = visit_store.take()
    assert taken is not None
    assert len(taken.sums) <= 8
    assert sum(number for item, number in taken.sums.items() if item.kind == "path") == 30


def test_a_clock_that_is_ahead_and_a_tenant_that_is_gone() -> None:
    tenant = make_tenant()
    visit(tenant=tenant, at=NOW)
    visit(at=NOW + timedelta(days=400))
    delete(tenant)
    with time_machine.travel(NOW, tick=False):
        roll_up_visits()
    assert sums(kind="total", grain="day") == {("day", "10 00:00"): 1}


def test_visits_do_not_keep_a_tenant() -> None:
    tenant = make_tenant()
    visit(tenant=tenant)
    roll_up_visits()
    assert VisitSum.objects.filter(tenant=tenant).exists()
    delete(tenant)
    assert not VisitSum.objects.filter(kind="total").exists()


def test_old_sums_are_dropped_and_months_kept() -> None:
    for days in (0, 790, 810):
        visit(at=NOW - timedelta(days=days))
    with time_machine.travel(NOW, tick=False):
        roll_up_visits()
        prune_visits()
    assert Counter(VisitSum.objects.filter(kind="total").values_list("grain", flat=True)) == {
        "quarter": 2,
        "hour": 2,
        "day": 2,
        "pentad": 2,
        "month": 3,
    }


# --- REST -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _some_visits() -> Iterator[None]:
    """The last ones of them before midnight in Kathmandu, which is 5:45 ahead."""
    for at, name, referrer in (
        (NOW, "/blog/a", "news.example"),
        (NOW, "/blog/a", "(direct)"),
        (NOW - timedelta(days=1), "/blog/b", "news.example"),
        (datetime(2026, 3, 9, 18, 14, tzinfo=UTC), "/blog/b", ""),
        (datetime(2026, 3, 9, 18, 15, tzinfo=UTC), "/contact", ""),
        (datetime(2026, 2, 27, tzinfo=UTC), "/contact", ""),
    ):
        visit(name, referrer, at=at)
    with time_machine.travel(NOW, tick=False):
        roll_up_visits()
        yield


@pytest.mark.usefixtures("_some_visits")
def test_the_report() -> None:
    report = data_of(with_key().get(f"{TRACKING}?from=2026-03-08&to=2026-03-10&limit=2"))
    assert json.loads(json.dumps(report)) == {
        "step": "day",
        "timeZone": "UTC",
        "total": 5,
        "previous": 0,
        "series": [
            {"day": f"2026-03-{day:02}", "startsAt": f"2026-03-{day:02}T00:00:00.000Z",
             "endsAt": f"2026-03-{day + 1:02}T00:00:00.000Z", "visits": visits}
            for day, visits in ((8, 0), (9, 3), (10, 2))
        ],
        "paths": [{"path": "/blog/a", "visits": 2}, {"path": "/blog/b", "visits": 2}],
        "referrers": [{"host": "news.example", "visits": 2}, {"host": "(direct)", "visits": 1}],
    }  # fmt: skip


@pytest.mark.usefixtures("_some_visits")
def test_steps_in_other_zones_and_longer_ones() -> None:
    client = with_key()

    def series(query: str) -> list[tuple[str, int]]:
        return [(step["day"], step["visits"]) for step in data_of(client.get(f"{TRACKING}?{query}"))["series"]]

    nepal = series("from=2026-03-09&to=2026-03-10&timeZone=Asia/Kathmandu")
    assert nepal == [("2026-03-09", 2), ("2026-03-10", 3)]
    assert series("from=2026-02-01&to=2026-03-31&step=month") == [("2026-02-01", 1), ("2026-03-01", 5)]
    assert series("from=2026-03-02&to=2026-03-10&step=week") == [("2026-03-02", 0), ("2026-03-09", 5)]
    assert data_of(client.get(TRACKING))["total"] == 6
    assert data_of(client.get(f"{TRACKING}?from=2026-03-01&to=2026-03-10"))["previous"] == 1


@pytest.mark.usefixtures("_some_visits")
def test_the_number_of_queries_does_not_follow_the_steps() -> None:
    client = client_of(make_key(scopes=["analytics:read"]).token)
    client.get(TRACKING)
    counts = []
    for query in ("from=2026-03-10", "from=2025-03-11&timeZone=America/New_York"):
        with CaptureQueriesContext(connection) as captured:
            data_of(client.get(f"{TRACKING}?{query}&to=2026-03-10"))
        counts.append(len(captured))
    assert counts == [3, 3], "the key, the steps, and the names"


def test_whose_visits_are_told() -> None:
    home = make_tenant()
    visit(tenant=home, at=NOW)
    visit(tenant=make_tenant(), at=NOW)
    visit(at=NOW)
    with time_machine.travel(NOW, tick=False):
        roll_up_visits()
        totals = [
            data_of(client_of(make_key(**fields).token).get(TRACKING))["total"]
            for fields in ({}, {"tenant": home}, {"mode": "test"}, {"mode": "test", "tenant": home})
        ]
    assert totals == [3, 1, 0, 0]


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-03-11&to=2026-03-10",
        "from=1990-01-01",
        "step=hour",
        "timeZone=Mars/Base",
        "limit=0",
        "limit=101",
        "x=1",
    ],
)
def test_bad_queries(query: str) -> None:
    assert failure_of(with_key().get(f"{TRACKING}?{query}")) == (400, "VALIDATION_ERROR")


def test_the_scope() -> None:
    client = client_of(make_key(scopes=["content:read"]).token)
    assert failure_of(client.get(TRACKING)) == (403, "FORBIDDEN")
