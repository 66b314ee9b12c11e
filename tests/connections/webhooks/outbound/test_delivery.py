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
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook

from connections import batches
from connections.models import DeliveryAttempt, DeliveryStatus, WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound import claims, delivery, endpoints, lanes, message, pruning, replays
from connections.webhooks.outbound.delivery import deliver_due
from connections.webhooks.outbound.fan_out import fan_out
from external_apis import outbox, tenants
from external_apis.errors import Conflict, InvalidInput, NotFound
from external_apis.ids import first_id
from external_apis.models import AuditEvent, OutboxEvent
from tests.factories import make_tenant
from tests.sockets import serve, trickle
from tests.webhook_receiver import Received, Receiver, Reply, answer, make_endpoint, tell

pytestmark = pytest.mark.django_db(transaction=True)


def forget_past() -> None:
    OutboxEvent.objects.filter(fanned_out_at=None).delete()


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


def let_pass(wait: timedelta) -> None:
    """Have everything that has happened so far so much longer ago."""
    values: Any = [wait]
    with database.cursor() as cursor:
        cursor.execute("UPDATE connections_webhookdelivery SET due_at = due_at - %s", values)
        cursor.execute("UPDATE connections_webhookendpoint SET failing_since = failing_since - %s", values)
        cursor.execute("UPDATE connections_deliveryattempt SET sent_at = sent_at - %s", values)


def test_the_rhythm_ends_after_eight_attempts(receiver: Receiver) -> None:
    make_endpoint(receiver)
    forget_past()
    tell()
    receiver.reply = answer(500)
    plain = [5, 300, 1800, 7200, 18000, 36000, 36000]
    for expected in plain:
        with time_machine.travel(timezone.now() + timedelta(hours=1)):  # as the database's clock does not say
            deliver_due(rng=random.Random(1))
        row = only_delivery()
        assert row.due_at is not None
        wait = row.due_at - timezone.now()
        assert 0.9 * expected < wait.total_seconds() <= 1.1 * expected
        let_pass(wait - timedelta(seconds=1))
        assert deliver_due().attempts == 0, "not before its time"
        let_pass(timedelta(seconds=1))
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):  # one of the workers' clocks is ahead
        deliver_due()
    row = only_delivery()
    assert (row.status, row.due_at, row.last_status, row.last_error) == ("failed", None, 500, "answered 500")
    assert len({came.message_id for came in receiver.received}) == 1
    assert DeliveryAttempt.objects.count() == len(receiver.received) == 8


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

    def fail_for(days: int) -> WebhookEndpoint:
        for day in range(days):
            let_pass(timedelta(hours=23, minutes=50))
            if 0 < day < days - 1:
                attempt = DeliveryAttempt(delivery=first, sent_at=timezone.now(), url=receiver.url, duration_ms=1)
                attempt.save()
            else:
                tell()
                deliver_due()
        endpoint.refresh_from_db()
        return endpoint

    receiver.reply = answer(500)
    tell()
    deliver_due()
    first = only_delivery()
    assert fail_for(5).is_enabled
    receiver.reply = answer(200)
    assert fail_for(1).failing_since is None, "one success and the days begin anew"
    receiver.reply = answer(500)
    assert fail_for(6).is_enabled
    assert fail_for(1).disabled_reason == "failing"
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


def test_days_without_an_attempt_do_not_count(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    receiver.reply = answer(500)
    tell()
    deliver_due()
    WebhookDelivery.objects.update(due_at=None, status="failed")
    let_pass(timedelta(days=6))
    tell()
    deliver_due()
    endpoint.refresh_from_db()
    assert endpoint.is_enabled
    assert endpoint.failing_since is not None
    assert timezone.now() - endpoint.failing_since < timedelta(hours=1), "the days begin anew"


def test_attempts_at_what_is_older_than_the_days_count(receiver: Receiver) -> None:
    """A delivery is tried for 70 hours where its receiver asks for that, and anew when it is replayed."""
    endpoint = make_endpoint(receiver, "grant.*")
    receiver.reply = answer(500)
    tell()
    deliver_due()
    DeliveryAttempt.objects.all().delete()
    WebhookDelivery.objects.update(id=first_id("whd", timezone.now() - timedelta(days=20)))
    for _ in range(6):
        let_pass(timedelta(hours=23, minutes=50))
        WebhookDelivery.objects.update(due_at=timezone.now(), attempts=0)
        deliver_due()
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "failing"


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


def test_whoever_drips_his_answer_is_not_waited_for(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    with serve(trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"z")) as port:
        endpoints.create({"url": f"http://127.0.0.1:{port}/", "events": ["grant.*"]})
        tell()
        assert deliver_due().delivered == 1
    assert DeliveryAttempt.objects.get().duration_ms < 5_000  # and not the 15 s of an answer


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
    settings.EGRESS_ALLOW = ["localhost"]
    endpoints.create({"url": "https://localhost/hook", "events": ["grant.*"]})
    settings.EGRESS_ALLOW = []
    tell()
    assert deliver_due().delivered == 0
    assert "loopback" in only_delivery().last_error
    assert "EGRESS_ALLOW" in only_delivery().last_error


def test_a_secret_that_does_not_open_is_a_failure_and_nothing_is_sent(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    with database.cursor() as cursor:
        cursor.execute("UPDATE connections_webhookendpoint SET secrets = '\\x0102' WHERE id = %s", [endpoint.pk])
    tell()
    assert deliver_due().delivered == 0
    assert receiver.received == []
    assert only_delivery().last_error == "The endpoint's secret cannot be opened."


def test_an_event_of_which_no_message_can_be_made_takes_no_lane(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(event: OutboxEvent) -> str:
        raise TypeError(event.pk)

    make_endpoint(receiver, "grant.*")
    tell()
    monkeypatch.setattr(message, "body_of", fail)
    assert deliver_due().attempts == 1
    assert only_delivery().last_error == "It could not be sent (TypeError)."


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
            deliver_due()
        finally:
            database.close()

    with ThreadPoolExecutor() as pool:
        running = pool.submit(work)
        until = time.monotonic() + 5
        while (
            len(receiver.received) < 5 or hanging.most_at_a_time < lanes.TROUBLED_AT_MOST
        ) and time.monotonic() < until:
            time.sleep(0.01)
        assert len(receiver.received) == 5
        release.set()
        running.result(15)
    assert hanging.most_at_a_time == lanes.TROUBLED_AT_MOST


def test_each_endpoint_has_a_thread_before_any_has_two(
    make_receiver: Callable[[], Receiver], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that an endpoint with much to do had besides its first would leave another one claimed and unserved."""
    monkeypatch.setattr(lanes, "THREADS", 4)
    monkeypatch.setattr(delivery, "THREADS", 4)
    release, hanging = threading.Event(), make_receiver()
    hanging.reply = lambda _: Reply(release=release)
    for _ in range(3):
        make_endpoint(hanging, "grant.*")
    make_endpoint(receiver, "grant.*")
    tell(8)

    def work() -> None:
        try:
            deliver_due()
        finally:
            database.close()

    with ThreadPoolExecutor() as pool:
        running = pool.submit(work)
        try:
            until = time.monotonic() + 10
            while len(receiver.received) < 8 or hanging.most_at_a_time < 3:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert hanging.most_at_a_time == 3
        finally:
            release.set()
        running.result(15)


def test_what_no_thread_is_free_for_is_given_back(receiver: Receiver) -> None:
    for _ in range(lanes.THREADS + 1):
        make_endpoint(receiver, "grant.*")
    tell()
    fan_out()
    release = threading.Event()
    receiver.reply = lambda _: Reply(release=release)
    with ThreadPoolExecutor(lanes.THREADS) as pool:
        lanes_ = lanes.Lanes(pool)
        options: Any = {"lot": 1, "passed": [], "troubled": False, "endpoints": lanes.THREADS + 1}
        lanes_.add(claims.claim("one", {}, **options))
        lanes_.start()
        assert len(lanes_.stranded()) == 1
        assert lanes_.stranded() == []
        release.set()


def test_nobody_is_told_for_a_tenant_that_is_switched_off(receiver: Receiver) -> None:
    tenant = make_tenant()
    endpoint = make_endpoint(receiver, "grant.*", tenant=tenant)

    def tell_tenant() -> None:
        with transaction.atomic():
            outbox.write([outbox.build("grant.expired", {}, tenant_id=tenant.pk)])

    tell_tenant()
    fan_out()
    tenant.is_active = False
    tenant.save()
    tell_tenant()
    assert deliver_due().attempts == 0
    with pytest.raises(Conflict, match="tenant is switched off"):
        replays.send_test(endpoint)
    with pytest.raises(Conflict, match="tenant is switched off"):
        replays.replay_since(endpoint, timezone.now())
    tenant.is_active = True
    tenant.save()
    assert deliver_due().delivered == 1, "what waited, and not what happened meanwhile"


def test_an_endpoint_deleted_while_a_delivery_is_stored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    tell()
    fan_out()
    (claimed,) = claims.claim("one", {}, lot=1, endpoints=1, passed=[], troubled=False)
    attempt = DeliveryAttempt(delivery=claimed, sent_at=timezone.now(), url=receiver.url, duration_ms=1)
    ending = claims.Ending(claimed, attempt, DeliveryStatus.DELIVERED, None)
    is_between, is_deleted = threading.Event(), threading.Event()
    store = DeliveryAttempt.objects.bulk_create

    def pause(*args: Any, **kwargs: Any) -> Any:
        is_between.set()
        assert is_deleted.wait(5), "whoever deletes waits for nobody"
        return store(*args, **kwargs)

    monkeypatch.setattr(DeliveryAttempt.objects, "bulk_create", pause)

    def work() -> None:
        try:
            claims.settle([ending])
        finally:
            database.close()

    with ThreadPoolExecutor() as pool:
        running = pool.submit(work)
        assert is_between.wait(5)
        endpoints.delete(endpoint)
        is_deleted.set()
        pruning.prune()  # waits
        running.result(5)
    pruning.prune()
    assert not DeliveryAttempt.objects.exists()
    assert not WebhookEndpoint.with_deleted.exists()


def test_so_many_endpoints_at_most_however_many_are_made_at_a_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "ENDPOINTS_AT_MOST", 2)
    tenant, told = make_tenant(), set[str]()

    def make(owner: Any) -> bool:
        try:
            make_endpoint(receiver, tenant=owner)
        except Conflict as error:
            told.add(error.message.partition(" already")[0])
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(make, [tenant] * 6)) == 2
        assert sum(pool.map(make, [None] * 6)) == 2
    assert told == {"There are 2 webhook endpoints"}
    endpoints.delete(WebhookEndpoint.objects.filter(tenant=tenant)[0])
    assert make(tenant), "one that is deleted does not count"
    assert make(make_tenant())


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "169.254.169.254", "192.168.1.1:8443"])
def test_a_private_address_is_refused_at_once(settings: Any, host: str) -> None:
    settings.EGRESS_ALLOW = []
    with pytest.raises(InvalidInput, match="leads to a"):
        endpoints.create({"url": f"https://{host}/in", "events": ["*"]})
    settings.EGRESS_ALLOW = [host.partition(":8443")[0].strip("[]")]
    endpoints.create({"url": f"https://{host}/in", "events": ["*"]})


@pytest.mark.parametrize(
    "host", ["localhost", "hooks.localhost", "LOCALHOST", "metadata.google.internal", "printer.local", "intranet"]
)
def test_a_name_that_can_only_lead_inside_is_refused_at_once(settings: Any, host: str) -> None:
    settings.EGRESS_ALLOW = ["other"]
    with pytest.raises(InvalidInput, match="EGRESS_ALLOW"):
        endpoints.create({"url": f"https://{host}/in", "events": ["*"]})
    allowed = ["127.0.0.0/8" if "localhost" in host.lower() else "10.0.0.0/8", host.rstrip(".").lower()]
    for entry in allowed:
        settings.EGRESS_ALLOW = [entry]
        endpoints.create({"url": f"https://{host}/in", "events": ["*"]})


def test_no_more_at_a_time_than_agreed_whatever_the_number_of_sweeps(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    tell(60)

    are_several = threading.Event()

    def reply(_: Received) -> Reply:
        if receiver.most_at_a_time > 1:
            are_several.set()
        are_several.wait(10)
        return Reply()

    receiver.reply = reply

    def work(_: int) -> int:
        try:
            return deliver_due().delivered
        finally:
            database.close()

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(work, range(3)))
    until = time.monotonic() + 20
    while WebhookDelivery.objects.filter(status="pending").exists():
        assert time.monotonic() < until
        done.append(deliver_due().delivered)
    assert sum(done) == 60 == len({came.message_id for came in receiver.received}) == len(receiver.received)
    assert 1 < receiver.most_at_a_time <= 4


def test_what_was_not_sent_is_given_back(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    tell(20)

    def reply(_: Received) -> Reply:
        time.sleep(0.1)
        return Reply()

    receiver.reply = reply
    done = deliver_due(seconds=0.05)
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
        with suppress(NotFound):  # several requests come at a time
            endpoints.delete(endpoint)
            pruning.prune()
        database.close()
        return Reply()

    receiver.reply = reply
    deliver_due()
    pruning.prune()
    assert not WebhookDelivery.objects.exists()
    assert not DeliveryAttempt.objects.exists()
    assert deliver_due().attempts == 0


def test_an_endpoint_is_deleted_at_once_and_its_history_bit_by_bit(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = make_tenant()
    endpoint = make_endpoint(receiver, "grant.*", tenant=tenant)
    tell(5, tenant_id=tenant.pk)
    deliver_due()
    tell(5, tenant_id=tenant.pk)
    fan_out()
    with transaction.atomic(), ThreadPoolExecutor() as pool:
        # Whoever stores attempts or fans out holds the row like this.
        with database.cursor() as cursor:
            cursor.execute("SELECT 1 FROM connections_webhookendpoint FOR KEY SHARE")
        for change in (
            lambda: endpoints.update(endpoint, {"description": "changed"}),
            lambda: endpoints.roll_secret(endpoint),
            lambda: endpoints.delete(endpoint),
        ):
            pool.submit(_alone, change).result(3)
    assert not WebhookEndpoint.objects.exists()
    with pytest.raises(NotFound):
        endpoints.find(endpoint.pk)
    make_endpoint(receiver, "grant.*", tenant=tenant)  # of the same URL
    assert (WebhookDelivery.objects.count(), DeliveryAttempt.objects.count()) == (10, 5)
    assert deliver_due().attempts == 0
    monkeypatch.setattr(batches, "SIZE", 4)
    monkeypatch.setattr(batches, "AT_MOST", 2)
    assert pruning.prune() == 8
    assert WebhookEndpoint.with_deleted.filter(pk=endpoint.pk).exists(), "the row goes at last"
    pruning.prune()
    assert (WebhookDelivery.objects.count(), DeliveryAttempt.objects.count()) == (0, 0)
    assert not WebhookEndpoint.with_deleted.filter(pk=endpoint.pk).exists()


def _alone(work: Callable[[], Any]) -> None:
    try:
        work()
    finally:
        database.close()


def test_an_endpoint_that_was_told_nothing_is_deleted_with_its_row(receiver: Receiver) -> None:
    tenant = make_tenant()
    idle = make_endpoint(receiver, tenant=tenant)
    endpoints.delete(idle)
    tenants.delete(tenant)
    assert not WebhookEndpoint.with_deleted.exists()
    assert AuditEvent.objects.get(action="webhook_endpoint.deleted").object_id == idle.pk
    busy = make_endpoint(receiver, "test", tenant=(tenant := make_tenant()))
    replays.send_test(busy)
    endpoints.delete(busy)
    with pytest.raises(Conflict, match="still has webhook endpoints that are being removed"):
        tenants.delete(tenant)
    pruning.prune()
    tenants.delete(tenant)


def test_a_tenant_goes_however_much_was_sent_for_it(receiver: Receiver) -> None:
    tenant = make_tenant()
    endpoint = make_endpoint(receiver, "grant.*", tenant=tenant)
    tell(tenant_id=tenant.pk)
    deliver_due()
    endpoints.delete(endpoint)
    pruning.prune()
    with CaptureQueriesContext(database) as captured:
        tenants.delete(tenant)
    assert not any("webhookdelivery" in query["sql"] for query in captured), "there is no index for it"


def test_claims_are_bounded_by_the_lease(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    tell(3)
    fan_out()
    options: Any = {"lot": 2, "endpoints": 5, "passed": [], "troubled": False}
    assert len(claims.claim("first", {}, **options)) == 2
    assert claims.claim("second", {}, **options) == [], "the endpoint is the first one's"
    assert len(claims.claim("first", {}, **options)) == 1
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        assert claims.claim("second", {}, **options) == [], "whatever a worker's own clock says"
    let_pass(claims.LEASE)
    assert len(claims.claim("second", {}, **{**options, "lot": 9})) == 3


def test_replays(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    began = timezone.now()
    tell(2)
    deliver_due()
    receiver.reply = answer(500)
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


@pytest.mark.parametrize("is_waiting", [False, True])
def test_what_is_replayed_while_old_ones_are_deleted_stays(receiver: Receiver, is_waiting: bool) -> None:
    endpoint = make_endpoint(receiver, "grant.*")
    tell()
    if is_waiting:
        fan_out()
        endpoints.update(endpoint, {"is_enabled": False})
    else:
        deliver_due()
    DeliveryAttempt.objects.all().delete()
    WebhookDelivery.objects.update(id=first_id("whd", timezone.now() - timedelta(days=3000)))
    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            if is_waiting:
                endpoints.update(endpoint, {"is_enabled": True})
            replays.replay(endpoint, only_delivery())
            pruning_ = pool.submit(_alone, pruning.prune)
            with suppress(TimeoutError):
                pruning_.result(0.3)
        pruning_.result(5)
    assert only_delivery().status == "pending"


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_many_are_replayed_batch_by_batch(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(replays, "_BATCH", size)
    endpoint = make_endpoint(receiver, "grant.*")
    began = timezone.now()
    tell(5)
    deliver_due()
    assert replays.replay_since(endpoint, began) == 5
    noted = AuditEvent.objects.filter(action="webhook_endpoint.replayed").order_by("pk")
    counts = [event.changes["deliveries"] for event in noted]
    assert (sum(counts), max(counts)) == (5, min(size, 5))
    assert deliver_due().delivered == 5
    assert replays.replay_since(endpoint, timezone.now()) == 0
    assert noted.all().count() == len(counts) + 1


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
    with time_machine.travel(timezone.now() + timedelta(hours=1)):  # of whoever asks
        sent = replays.send_test(endpoint)
    forget_past()
    with time_machine.travel(timezone.now() - timedelta(hours=1)):  # of the worker
        deliver_due()
    assert receiver.types() == ["test"]
    assert json.loads(receiver.received[0].body)["data"] == {"endpointId": endpoint.pk, "tenantId": endpoint.tenant_id}
    assert replays.find_delivery(endpoint, sent.pk).status == DeliveryStatus.DELIVERED
