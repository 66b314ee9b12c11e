"""Deliveries over real sockets: what is sent, what counts, when it is tried again, and who is switched off."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection as database
from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook

from connections.models import DeliveryAttempt, DeliveryStatus, WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound import claims, endpoints, lanes, message, replays
from connections.webhooks.outbound.delivery import deliver_due
from connections.webhooks.outbound.fan_out import fan_out
from external_apis import outbox
from external_apis.errors import Conflict, NotFound
from external_apis.models import AuditEvent, OutboxEvent
from tests.factories import make_tenant
from tests.sockets import serve, trickle
from tests.webhook_receiver import Received, Receiver, Reply, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


def tell(count: int = 1, event_type: str = "grant.expired", **data: Any) -> list[OutboxEvent]:
    with transaction.atomic():
        events = [outbox.build(event_type, {"number": number, **data}, tenant_id=None) for number in range(count)]
        outbox.write(events)
    return events


def forget_past() -> None:
    OutboxEvent.objects.filter(fanned_out_at=None).delete()


def answer(status: int, **headers: str) -> Callable[[Received], Reply]:
    body = b"" if status == 304 else b"said so"  # which has none
    return lambda _: Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def only_delivery() -> WebhookDelivery:
    return WebhookDelivery.objects.get()


def test_a_message_is_what_standard_webhooks_says(receiver: Receiver) -> None:
    made = endpoints.create({"url": receiver.url, "events": ["grant.expired"]})
    (event,) = tell(connectionId="conn_ä")
    done = deliver_due()
    assert (done.attempts, done.delivered) == (1, 1)
    (came,) = receiver.received
    assert Webhook(made.secret).verify(came.body.encode(), came.headers) == {
        "type": "grant.expired",
        "timestamp": event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {"number": 0, "connectionId": "conn_ä"},
    }
    assert came.message_id == event.pk
    assert came.headers["content-type"] == "application/json"
    row = only_delivery()
    assert (row.status, row.due_at, row.holder, row.attempts) == (DeliveryStatus.DELIVERED, None, "", 1)
    assert row.delivered_at is not None
    (attempt,) = DeliveryAttempt.objects.all()
    assert (attempt.status, attempt.error, attempt.url) == (204, "", receiver.url)
    assert deliver_due().attempts == 0


def test_the_rhythm_ends_after_eight_attempts(receiver: Receiver) -> None:
    make_endpoint(receiver)
    forget_past()
    tell()
    receiver.reply = answer(500)
    now, waits = timezone.now(), []
    with time_machine.travel(now, tick=False) as clock:
        for _ in range(8):
            deliver_due(rng=random.Random(1))
            row = only_delivery()
            if row.due_at is not None:
                waits.append((row.due_at - timezone.now()).total_seconds())
                clock.move_to(row.due_at - timedelta(seconds=0.5))
                assert deliver_due().attempts == 0, "not before its time"
                clock.move_to(row.due_at)
    plain = [5, 300, 1800, 7200, 18000, 36000, 36000]
    assert all(expected <= wait <= 1.1 * expected for expected, wait in zip(plain, waits, strict=True))
    assert (row.status, row.due_at, row.last_status, row.last_error) == ("failed", None, 500, "answered 500")
    assert len({came.message_id for came in receiver.received}) == 1
    assert len({came.headers["webhook-timestamp"] for came in receiver.received}) == 8
    assert DeliveryAttempt.objects.count() == 8


def test_only_2xx_counts_and_no_redirect_is_followed(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    for status in (200, 201, 202, 299, 301, 302, 304, 307, 308, 400, 404, 500):
        receiver.received.clear()
        receiver.reply = answer(status, Location=receiver.url.replace("/hook", "/elsewhere"))
        (event,) = tell()
        assert deliver_due().delivered == (status < 300)
        assert [came.path for came in receiver.received] == ["/hook"]
        row = WebhookDelivery.objects.get(event=event)
        assert (row.status, row.last_status) == ("delivered" if status < 300 else "pending", status)


def test_retry_after_of_a_refusal_counts(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    for status, asked, seconds in ((429, "120", 120), (503, "99999999", 36000), (500, "120", 5)):
        receiver.reply = answer(status, Retry_After=asked)
        (event,) = tell()
        deliver_due()
        due_at = WebhookDelivery.objects.get(event=event).due_at
        assert due_at is not None
        assert seconds - 5 < (due_at - timezone.now()).total_seconds() <= 1.1 * seconds


def test_a_410_switches_off(receiver: Receiver, make_receiver: Callable[[], Receiver]) -> None:
    gone, other = make_endpoint(receiver, "grant.*"), make_receiver()
    make_endpoint(other, "webhook_endpoint.*")
    tell()
    receiver.reply = answer(410)
    deliver_due()
    gone.refresh_from_db()
    assert (gone.is_enabled, gone.disabled_reason) == (False, "gone")
    assert gone.disabled_at is not None
    event = AuditEvent.objects.get(action="webhook_endpoint.disabled")
    assert (event.object_id, event.changes["disabled_reason"]) == (gone.pk, [None, "gone"])
    deliver_due()
    assert other.types() == ["webhook_endpoint.disabled"]
    assert json.loads(other.received[0].body)["data"]["id"] == gone.pk


def test_five_days_without_a_success_switch_off(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    receiver.reply = answer(500)
    now = timezone.now()
    with time_machine.travel(now, tick=False) as clock:
        tell()
        deliver_due()
        endpoint.refresh_from_db()
        assert endpoint.failing_since == now
        clock.move_to(now + timedelta(days=4, hours=23))
        tell()
        deliver_due()
        endpoint.refresh_from_db()
        assert (endpoint.is_enabled, endpoint.failing_since) == (True, now)
        receiver.reply = answer(200)
        deliver_due()
        tell()
        deliver_due()
        endpoint.refresh_from_db()
        assert endpoint.failing_since is None, "one success and the days begin anew"
        receiver.reply = answer(500)
        tell()
        deliver_due()
        clock.move_to(timezone.now() + timedelta(days=5))
        deliver_due()
    endpoint.refresh_from_db()
    assert (endpoint.is_enabled, endpoint.disabled_reason) == (False, "failing")
    with pytest.raises(Conflict):
        replays.send_test(endpoint)
    count = len(receiver.received)
    tell()
    assert deliver_due().attempts == 0
    # Switched on again it begins anew, with what still waited.
    receiver.reply = answer(200)
    endpoints.update(endpoint, {"is_enabled": True})
    WebhookDelivery.objects.filter(status="pending").update(due_at=timezone.now())
    assert deliver_due().delivered > 0
    assert len(receiver.received) > count


def test_an_answer_is_kept_in_part_and_sealed(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*", tenant=None)
    tell(3)
    bodies = [b"x" * 5_000, b"\xff\0 not text", b"y" * 100_000]
    receiver.reply = lambda came: Reply(200, body=bodies[json.loads(came.body)["data"]["number"]])
    assert deliver_due().delivered == 3
    kept = {attempt.answer["body"] for attempt in DeliveryAttempt.objects.all()}
    assert kept == {"x" * 2048, "\N{REPLACEMENT CHARACTER}\0 not text", "y" * 2048}
    with database.cursor() as cursor:
        cursor.execute("SELECT answer FROM connections_deliveryattempt")
        assert not any(b"xxxx" in bytes(sealed) for (sealed,) in cursor.fetchall())


def test_a_body_without_end_does_not_matter_after_a_2xx(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    monkeypatch.setattr(message, "ANSWER_SECONDS", 0.4)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serve(trickle(head, b"1\r\nz\r\n")) as port:
        endpoints.create({"url": f"http://127.0.0.1:{port}/", "events": ["grant.*"]})
        tell()
        assert deliver_due().delivered == 1
    assert set(DeliveryAttempt.objects.get().answer["body"]) == {"z"}


def test_no_answer_in_time_is_a_failure(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "ANSWER_SECONDS", 0.3)
    make_endpoint(receiver, "grant.*")
    tell()
    release = threading.Event()
    receiver.reply = lambda _: Reply(200, release=release)
    began = time.monotonic()
    assert deliver_due().delivered == 0
    assert time.monotonic() - began < 3
    release.set()
    row = only_delivery()
    assert (row.status, row.last_status) == (DeliveryStatus.PENDING, None)
    assert "in time" in row.last_error


def test_the_egress_guard_holds(receiver: Receiver, settings: Any) -> None:
    make_endpoint(receiver, "grant.*")
    settings.EGRESS_ALLOW = []
    tell()
    assert deliver_due().delivered == 0
    assert receiver.received == []
    assert "refused" in only_delivery().last_error


def test_a_name_that_leads_inside_is_refused_when_it_is_called(settings: Any) -> None:
    settings.EGRESS_ALLOW = []
    endpoints.create({"url": "https://localhost/hook", "events": ["grant.*"]})
    tell()
    assert deliver_due().delivered == 0
    assert "loopback" in only_delivery().last_error


def test_a_secret_that_does_not_open_is_a_failure_and_nothing_is_sent(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    with database.cursor() as cursor:
        cursor.execute("UPDATE connections_webhookendpoint SET secrets = '\\x0102' WHERE id = %s", [endpoint.pk])
    tell()
    assert deliver_due().delivered == 0
    assert receiver.received == []
    assert only_delivery().last_error == "The endpoint's secret cannot be opened."


def test_a_receiver_that_hangs_does_not_hold_up_others(
    make_receiver: Callable[[], Receiver], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hang, with more work each than there are threads; what the fourth gets it gets at once."""
    monkeypatch.setattr(message, "ANSWER_SECONDS", 3.0)
    release, arrived = threading.Event(), threading.Event()
    for hanging in (make_receiver(), make_receiver(), make_receiver()):
        hanging.reply = lambda _: Reply(200, release=release)
        make_endpoint(hanging, "grant.*")
    make_endpoint(receiver, "grant.*")
    tell(40)

    def reply(_: Received) -> Reply:
        if len(receiver.received) == 40:
            arrived.set()
        return Reply()

    receiver.reply = reply

    def work() -> None:
        try:
            deliver_due()
        finally:
            database.close()

    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        running = pool.submit(work)
        assert arrived.wait(2.5)
        assert time.monotonic() - began < 2.5, "before the first of the others was given up"
        release.set()
        running.result(15)
    assert len(receiver.received) == 40


def test_endpoints_that_fail_leave_room(make_receiver: Callable[[], Receiver], receiver: Receiver) -> None:
    """They have one request under way each, and all of them half of the threads."""
    release, hanging = threading.Event(), make_receiver()
    hanging.reply = lambda _: Reply(500, release=release)
    since = timezone.now()
    for _ in range(lanes.THREADS):
        make_endpoint(hanging, "grant.*")
    WebhookEndpoint.objects.update(failing_since=since)
    make_endpoint(receiver, "grant.*")
    tell(5)

    def work() -> None:
        try:
            deliver_due(seconds=1.0)
        finally:
            database.close()

    with ThreadPoolExecutor() as pool:
        running = pool.submit(work)
        until = time.monotonic() + 5
        while (
            len(receiver.received) < 5 or hanging.most_at_a_time < lanes.FAILING_AT_MOST
        ) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        assert hanging.most_at_a_time == lanes.FAILING_AT_MOST
        assert len(receiver.received) == 5
        release.set()
        running.result(15)


def test_no_more_at_a_time_than_agreed_whatever_the_number_of_sweeps(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    tell(60)

    def reply(_: Received) -> Reply:
        time.sleep(0.01)
        return Reply()

    receiver.reply = reply

    def work(_: int) -> int:
        try:
            return deliver_due().delivered
        finally:
            database.close()

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(work, range(3)))
    while WebhookDelivery.objects.filter(status="pending").exists():
        done.append(deliver_due().delivered)
    assert sum(done) == 60 == len({came.message_id for came in receiver.received}) == len(receiver.received)
    assert 1 < receiver.most_at_a_time <= 4


def test_what_was_not_sent_is_given_back(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    tell(20)

    def reply(_: Received) -> Reply:
        time.sleep(0.3)
        return Reply()

    receiver.reply = reply
    done = deliver_due(seconds=0.2)
    assert 0 < done.delivered < 20
    rest = WebhookDelivery.objects.filter(status="pending")
    assert set(rest.values_list("holder", "attempts")) == {("", 0)}
    assert rest.filter(due_at__lte=timezone.now()).count() == 20 - done.delivered


def test_an_overtaken_sweep_stores_nothing(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    tell()

    def reply(_: Received) -> Reply:
        WebhookDelivery.objects.update(fence=100, holder="somebody else")
        database.close()
        return Reply()

    receiver.reply = reply
    deliver_due()
    row = only_delivery()
    assert (row.status, row.holder, row.fence) == (DeliveryStatus.PENDING, "somebody else", 100)
    assert not DeliveryAttempt.objects.exists()


def test_an_endpoint_deleted_while_a_delivery_is_under_way(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    tell(5)

    def reply(_: Received) -> Reply:
        if WebhookEndpoint.objects.filter(pk=endpoint.pk).exists():
            with suppress(NotFound):  # several requests come at a time
                endpoints.delete(endpoint)
        database.close()
        return Reply()

    receiver.reply = reply
    deliver_due()
    assert not WebhookDelivery.objects.exists()
    assert not DeliveryAttempt.objects.exists()
    assert deliver_due().attempts == 0


def test_claims_are_bounded_by_the_lease(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    tell(3)
    fan_out()
    options: Any = {"lot": 2, "endpoints": 5, "passed": [], "failing": False}
    assert len(claims.claim("first", {}, **options)) == 2
    assert claims.claim("second", {}, **options) == [], "the endpoint is the first one's"
    assert len(claims.claim("first", {}, **options)) == 1
    with time_machine.travel(timezone.now() + claims.LEASE + timedelta(seconds=1)):
        assert len(claims.claim("second", {}, **{**options, "lot": 9})) == 3


def test_replays(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    began = timezone.now()
    tell(2)
    deliver_due()
    receiver.reply = answer(500)
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        later = timezone.now()
        tell()
        deliver_due()
        receiver.reply = answer(200)
        receiver.received.clear()
        first, *_ = replays.deliveries_of(endpoint).order_by("pk")
        assert replays.replay(endpoint, first).attempts == 0
        deliver_due()
        assert [came.message_id for came in receiver.received] == [first.event_id], "the same id as the first time"
        assert replays.attempts_of(first).count() == 2
        for since, only_failed, count in ((later, False, 1), (began, True, 1), (began, False, 3)):
            WebhookDelivery.objects.filter(event__at__gte=later).update(status="failed", due_at=None)
            receiver.received.clear()
            assert replays.replay_since(endpoint, since, only_failed=only_failed) == count
            assert deliver_due().delivered == count == len(receiver.received)


def test_what_is_under_way_is_not_replayed(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    tell()
    told: list[Any] = []

    def reply(_: Received) -> Reply:
        try:
            told.append(replays.replay_since(endpoint, timezone.now() - timedelta(days=1)))
            replays.replay(endpoint, only_delivery())
        except Conflict as error:
            told.append(error.code)
        database.close()
        return Reply()

    receiver.reply = reply
    assert deliver_due().delivered == 1
    assert told == [0, "CONFLICT"]


def test_a_test_event_goes_to_one_endpoint_whatever_it_listens_to(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "provider.created", tenant=make_tenant())
    make_endpoint(receiver)
    forget_past()
    delivery = replays.send_test(endpoint)
    forget_past()
    deliver_due()
    assert receiver.types() == ["test"]
    assert json.loads(receiver.received[0].body)["data"] == {"endpointId": endpoint.pk, "tenantId": endpoint.tenant_id}
    assert replays.find_delivery(endpoint, delivery.pk).status == DeliveryStatus.DELIVERED
