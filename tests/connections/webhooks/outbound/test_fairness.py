"""What is slow, gone, changed or broken holds up nobody else, and is told nothing that was queued for it before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db import connection as database
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from connections.models import DeliveryAttempt, WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound import claims, delivery, endpoints, fan_out, lanes
from connections.webhooks.outbound.delivery import deliver_due
from external_apis.ids import first_id
from external_apis.models import OutboxEvent
from tests.factories import make_tenant
from tests.webhook_receiver import Received, Receiver, Reply, answer, make_endpoint, tell

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def sweeping() -> Iterator[None]:
    """A sweep that runs meanwhile, and is waited for."""

    def work() -> None:
        try:
            deliver_due()
        finally:
            database.close()

    with ThreadPoolExecutor() as pool:
        running = pool.submit(work)
        yield
        running.result(20)


def wait_for(is_so: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "in time"
        time.sleep(0.01)


def slowly(seconds: float) -> Callable[[Received], Reply]:
    def reply(_: Received) -> Reply:
        time.sleep(seconds)
        return Reply()

    return reply


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PACE", fan_out.Pace())


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "THREADS", 4)
    monkeypatch.setattr(lanes, "TROUBLED_AT_MOST", 2)
    monkeypatch.setattr(delivery, "THREADS", 4)


@pytest.mark.usefixtures("four_threads")
def test_receivers_that_answer_200_and_slowly_hold_up_nobody(
    make_receiver: Callable[[], Receiver], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tenants' many endpoints take their time for each event; a third tenant's is told at once all the same."""
    monkeypatch.setattr(lanes, "SLOW_SECONDS", 0.06)
    slow, quick = make_receiver(), make_tenant()
    slow.reply = slowly(0.12)
    make_endpoint(receiver, "grant.*", tenant=quick)
    for tenant in (make_tenant(), make_tenant()):
        for _ in range(6):
            make_endpoint(slow, "grant.*", tenant=tenant)
        tell(3, tenant_id=tenant.pk)
    with sweeping():
        wait_for(lambda: len(slow.received) >= 4)
        tell(20, tenant_id=quick.pk)
        wait_for(lambda: len(receiver.received) == 20)
        before = len(slow.received)
        # Those that answered slowly have half of the threads from now on.
        wait_for(lambda: len(slow.received) >= 20)
        slow.most_at_a_time = 0
    assert before <= 12, "no more than those that had a thread already, and theirs"
    assert slow.most_at_a_time <= 2
    assert len(slow.received) == 36
    assert set(WebhookEndpoint.objects.values_list("is_slow", "tenant_id")) >= {(False, quick.pk)}
    assert WebhookEndpoint.objects.filter(is_slow=True).count() == 12


def test_slow_is_who_was_slow_among_the_last_answers(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers slowly now and then does not take all threads in between."""
    monkeypatch.setattr(lanes, "SLOW_SECONDS", 0.1)
    endpoint = make_endpoint(receiver, "grant.*")
    quick = lanes.QUICK_ANSWERS
    for seconds, count, is_slow in ((0.2, 1, True), (0.0, quick - 1, True), (0.2, 1, True), (0.0, quick - 1, True),
                                    (0.0, 1, False), (0.0, 1, False), (0.2, 1, True)):  # fmt: skip
        receiver.reply = slowly(seconds)
        tell(count)
        assert deliver_due().delivered == count
        endpoint.refresh_from_db()
        assert endpoint.is_slow == is_slow


def test_who_has_waited_longest_is_claimed_first_and_tenants_take_turns(receiver: Receiver) -> None:
    mine, theirs = make_tenant(), make_tenant()
    many = [make_endpoint(receiver, "grant.*", tenant=mine) for _ in range(3)]
    (one,) = [make_endpoint(receiver, "grant.*", tenant=theirs)]
    for tenant in (mine, theirs):
        tell(6, tenant_id=tenant.pk)
    fan_out.fan_out()

    def claim(busy: dict[str | None, int]) -> str:
        options: Any = {"lot": 1, "endpoints": 1, "passed": [], "troubled": False, "busy": busy}
        (claimed,) = claims.claim("one", {}, **options)
        WebhookDelivery.objects.filter(pk=claimed.pk).update(due_at=None, holder="")
        return claimed.endpoint_id

    assert [claim({mine.pk: 1}), claim({mine.pk: 2, theirs.pk: 1})] == [one.pk, one.pk]
    turns = [claim({}) for _ in range(4)]
    assert [turn == one.pk for turn in turns] == [False, True, False, True]
    assert len({*turns} & {endpoint.pk for endpoint in many}) == 2


@pytest.mark.usefixtures("four_threads", "one_lot")
def test_a_lane_gives_its_thread_up_when_others_wait(
    make_receiver: Callable[[], Receiver], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoints whose answers are quick enough, but which have much to do, take turns with those that have not."""
    monkeypatch.setattr(lanes, "TURN_SECONDS", 0.2)
    busy = make_receiver()
    busy.reply = slowly(0.05)
    for _ in range(4):
        make_endpoint(busy, "grant.*", tenant=(tenant := make_tenant()))
        tell(30, tenant_id=tenant.pk)
    make_endpoint(receiver, "grant.*", tenant=(late := make_tenant()))
    with sweeping():
        wait_for(lambda: len(busy.received) >= 8)
        tell(1, tenant_id=late.pk)
        wait_for(lambda: len(receiver.received) == 1)
        before = len(busy.received)
    assert before < 60
    assert len(busy.received) == 120


@pytest.fixture
def one_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty are claimed at once, of which most wait in memory."""
    monkeypatch.setattr(delivery, "FIRST_LOT", 40)
    monkeypatch.setattr(lanes, "FIRST_LOT", 40)


@pytest.mark.usefixtures("one_lot")
def test_what_is_queued_behind_a_410_is_not_sent(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    receiver.reply = answer(410)
    tell(40)
    deliver_due()
    assert len(receiver.received) <= 4
    waiting = WebhookDelivery.objects.filter(holder="", attempts=0, due_at__isnull=False)
    assert waiting.count() == 40 - len(receiver.received)


def switch_off(endpoint: WebhookEndpoint) -> None:
    endpoints.update(endpoint, {"is_enabled": False})


def switch_tenant_off(endpoint: WebhookEndpoint) -> None:
    assert endpoint.tenant is not None
    endpoint.tenant.is_active = False
    endpoint.tenant.save()


@pytest.mark.usefixtures("one_lot")
@pytest.mark.parametrize("change", [switch_off, switch_tenant_off, endpoints.delete])
def test_what_is_queued_is_not_sent_once_it_is_switched_off(
    receiver: Receiver, change: Callable[[WebhookEndpoint], Any]
) -> None:
    endpoint = make_endpoint(receiver, "grant.*", tenant=make_tenant())
    tell(40, tenant_id=endpoint.tenant_id)
    lock, changed = threading.Lock(), list[bool]()

    def reply(_: Received) -> Reply:
        with lock:
            if not changed:
                change(endpoint)
                changed.append(True)
                database.close()
        time.sleep(0.2)
        return Reply()

    receiver.reply = reply
    deliver_due()
    assert len(receiver.received) <= 20


@pytest.mark.parametrize("status", [200, 410, 500])
@pytest.mark.parametrize("is_slow", [True, False], ids=["news", "nothing new"])
def test_what_was_sent_before_an_endpoint_was_changed_says_nothing_of_it_now(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, status: int, is_slow: bool
) -> None:
    monkeypatch.setattr(lanes, "SLOW_SECONDS", 0 if is_slow else 60)
    endpoint = make_endpoint(receiver, "grant.*")
    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=6))

    def reply(_: Received) -> Reply:
        endpoints.update(endpoint, {"url": f"{receiver.url}/new"})
        database.close()
        return Reply(status)

    receiver.reply = reply
    tell()
    assert deliver_due().attempts == 1
    endpoint.refresh_from_db()
    assert (endpoint.is_enabled, endpoint.failing_since, endpoint.is_slow) == (True, None, False)
    receiver.reply = answer(410)
    tell()
    deliver_due()
    endpoint.refresh_from_db()
    assert (endpoint.disabled_reason, endpoint.is_slow) == ("gone", is_slow)
    endpoint = endpoints.update(endpoint, {"is_enabled": True})
    assert (endpoint.failing_since, endpoint.is_slow) == (None, False), "it begins anew"


def test_days_of_another_url_do_not_count(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    tell()
    deliver_due()
    sent, now = WebhookDelivery.objects.get(), timezone.now()
    WebhookEndpoint.objects.update(failing_since=now - timedelta(days=6))
    attempts = [
        DeliveryAttempt(delivery=sent, sent_at=now - timedelta(hours=24 * day + 1), url="https://old/", duration_ms=1)
        for day in range(6)
    ]
    for attempt in attempts:
        attempt.id = first_id("wha", attempt.sent_at)
    DeliveryAttempt.objects.bulk_create(attempts)
    receiver.reply = answer(500)
    tell()
    deliver_due()
    endpoint.refresh_from_db()
    assert endpoint.is_enabled


@pytest.mark.usefixtures("one_lot")
def test_a_secret_that_was_replaced_signs_nothing_more(receiver: Receiver) -> None:
    made = endpoints.create({"url": receiver.url, "events": ["grant.*"]})
    tell(40)
    rolled: list[str] = []
    lock = threading.Lock()

    def reply(_: Received) -> Reply:
        with lock:
            if not rolled:
                rolled.append(endpoints.roll_secret(made.endpoint).secret)
                database.close()
        time.sleep(0.1)
        return Reply()

    receiver.reply = reply
    assert deliver_due().delivered == 40
    assert len(receiver.received) == 40

    def is_signed_with(came: Received, secret: str) -> bool:
        try:
            Webhook(secret).verify(came.body.encode(), came.headers)
        except WebhookVerificationError:
            return False
        return True

    assert sum(is_signed_with(came, made.secret) for came in receiver.received) <= 30
    assert is_signed_with(receiver.received[-1], rolled[0])


def test_a_fan_out_that_fails_stops_no_delivery_and_takes_less_the_next_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_endpoint(receiver, "grant.*")
    tell()
    fan_out.fan_out()
    tell()
    asked: list[int] = []

    def failing(rows: int) -> int:
        asked.append(rows)
        if len(asked) == 1:
            raise OperationalError("canceling statement due to statement timeout")
        return fan_out.fan_out(rows)

    monkeypatch.setattr(delivery, "fan_out", failing)
    assert deliver_due().delivered == 2
    assert asked[:2] == [fan_out.ROWS, fan_out.ROWS // 2]


def test_a_fan_out_that_fails_for_good_is_tried_ever_later(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    make_endpoint(receiver, "grant.*")
    tell()
    asked: list[int] = []

    def failing(rows: int) -> int:
        asked.append(rows)
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(delivery, "fan_out", failing)
    for _ in range(3):
        assert deliver_due().attempts == 0
    assert asked == [fan_out.ROWS, fan_out.ROWS // 2], "the next sweep of this process waits as well"
    for _ in range(20):
        monkeypatch.setattr(delivery.PACE, "not_before", 0.0)
        deliver_due()
    assert (len(asked), asked[-1]) == (22, 1), "never less than one event"
    assert delivery.PACE.not_before - time.monotonic() > 9
    monkeypatch.setattr(delivery, "fan_out", fan_out.fan_out)
    assert deliver_due().attempts == 0
    monkeypatch.setattr(delivery.PACE, "not_before", 0.0)
    assert deliver_due().delivered == 1
    assert delivery.PACE.rows == 2, "more again"


def test_a_fan_out_has_two_seconds(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    tell()
    monkeypatch.setattr(fan_out, "STATEMENT_SECONDS", 0.1)

    def work() -> None:
        try:
            with pytest.raises(OperationalError, match="statement timeout"):
                fan_out.fan_out()
        finally:
            database.close()

    with ThreadPoolExecutor() as pool, transaction.atomic():
        WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
        pool.submit(work).result(3)
    assert fan_out.fan_out() == 1


def test_a_fan_out_makes_so_many_rows_at_most(receiver: Receiver) -> None:
    tenant = make_tenant()
    for owner in (tenant, tenant, tenant, make_tenant(), None):
        make_endpoint(receiver, "grant.*", tenant=owner)
    OutboxEvent.objects.all().delete()
    tell(10, tenant_id=tenant.pk)
    counts = [fan_out.fan_out(8)]
    assert (counts, WebhookDelivery.objects.count()) == ([2], 8)
    while counts[-1]:
        counts.append(fan_out.fan_out(8))
    assert sum(counts) == 10
    assert WebhookDelivery.objects.count() == 40
    tell()
    assert fan_out.fan_out(1) == 1, "one event is made whole"


def test_a_fan_out_takes_of_each_tenant_as_much_as_its_own_endpoints_leave_room_for(receiver: Receiver) -> None:
    many, few = make_tenant(), make_tenant()
    for owner in (many, many, many, many, few):
        make_endpoint(receiver, "grant.*", tenant=owner)
    OutboxEvent.objects.all().delete()
    tell(10, tenant_id=many.pk)
    tell(10, tenant_id=few.pk)
    tell(1)

    def made(owner: Any) -> int:
        return WebhookDelivery.objects.filter(tenant=owner).count()

    assert fan_out.fan_out(12) == 1 + 1 + 4, "a third of the room for each"
    assert (made(many), made(few)) == (4, 4)
    assert fan_out.fan_out(12) == 1 + 6
    assert (made(many), made(few)) == (8, 10)
    assert fan_out.fan_out(12) == 3
    assert fan_out.fan_out(1) == 1, "one event is made whole"


def test_one_look_fans_all_out(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    make_endpoint(receiver, "grant.*")
    tell(6)
    monkeypatch.setattr(delivery.PACE, "rows", 1)
    claimed: list[int] = []
    claim = claims.claim

    def count(*args: Any, **kwargs: Any) -> list[WebhookDelivery]:
        claimed.append(OutboxEvent.objects.filter(fanned_out_at=None, type="grant.expired").count())
        return claim(*args, **kwargs)

    monkeypatch.setattr(claims, "claim", count)
    assert deliver_due().delivered == 6
    assert claimed[0] == 0
