"""Handlers: each until it is done, none twice; retried, dead, replayed, pruned."""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone

from connections import batches, stopping
from connections.models import EventStatus, WebhookEvent, WebhookRefusal
from connections.tasks import process_webhook_events, prune_webhook_events
from connections.webhooks import ReceivedEvent, on_webhook
from connections.webhooks.inbound import lookup, processing, pruning, time_limit, turns
from connections.webhooks.inbound.processing import BACKOFF_SECONDS, process_due
from connections.webhooks.inbound.receipt import PROCESS
from connections.webhooks.inbound.replay import replay
from connections.webhooks.inbound.time_limit import TookTooLong
from external_apis import audit, valkey
from external_apis.errors import Conflict, MissingCredential, NotFound
from external_apis.ids import first_id
from external_apis.models import AuditEvent, ExternalApi, Partner, Tenant
from external_apis.shredding import shred
from external_apis.tenancy import Scope
from tests.factories import make_connection, make_partner, make_tenant
from tests.inbound import SECRET, make_webhook_event, send, stripe_body, stripe_headers, webhook_provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> ExternalApi:
    return webhook_provider()


def receive(client: Client, event_id: str = "evt_1", kind: str = "invoice.paid", **more: Any) -> WebhookEvent:
    assert send(client, stripe_body(event_id, kind, **more)).status_code == 200
    return WebhookEvent.objects.get(event_id=event_id)


def let_be_due(row: WebhookEvent, at: datetime | None = None) -> None:
    WebhookEvent.objects.filter(pk=row.pk).update(due_at=at or timezone.now())


def failing(
    times: int,
    error: Callable[[], BaseException] = lambda: ValueError("Canary of the payload"),
    name: str = "fail",
    **options: bool,
) -> list[int]:
    """Register a handler that fails so many times; returns the list of its attempts."""
    calls: list[int] = []

    def fail(event: ReceivedEvent) -> None:
        calls.append(event.attempt)
        if len(calls) <= times:
            raise error()

    fail.__qualname__ = name
    on_webhook("stripe", "invoice.*", **options)(fail)
    return calls


def test_a_handler_gets_the_event(client: Client, api: ExternalApi) -> None:
    found: list[ReceivedEvent] = []

    @on_webhook("stripe", "invoice.*")
    def note(event: ReceivedEvent) -> None:
        found.append(event)

    mine = make_connection(api)
    row = receive(client, customer="cus_1")
    assert process_due() == 1
    (event,) = found
    assert (event.id, event.type, event.types, event.provider) == ("evt_1", "invoice.paid", ("invoice.paid",), "stripe")
    assert event.payload["customer"] == "cus_1"
    assert event.body == stripe_body(kind="invoice.paid", customer="cus_1")
    assert (event.row_id, event.external_api_id, event.tenant_id) == (row.pk, api.pk, None)
    assert event.connection == mine
    assert event.received_at == row.received_at
    assert event.idempotency_key.startswith(f"{row.pk}:")
    assert "cus_1" not in repr(event)
    row.refresh_from_db()
    assert (row.status, row.due_at, row.connection_id) == (EventStatus.PROCESSED, None, mine.pk)
    assert row.finished_at is not None
    (result,) = row.results.values()
    assert (result["status"], result["attempts"]) == ("done", 1)


def test_only_the_handlers_of_the_event_run(client: Client, api: ExternalApi) -> None:
    ran: list[str] = []
    for slug, pattern in (("stripe", "invoice.paid"), ("stripe", "charge.*"), ("github", "*"), ("stripe", "*")):

        def note(event: ReceivedEvent, name: str = f"{slug} {pattern}") -> None:
            ran.append(name)

        note.__qualname__ = f"{slug} {pattern}"
        on_webhook(slug, pattern)(note)
    receive(client)
    process_due()
    assert ran == ["stripe invoice.paid", "stripe *"]


def test_two_handlers_of_one_name_are_refused() -> None:
    def make() -> Callable[[ReceivedEvent], None]:
        def handle(event: ReceivedEvent) -> None:
            pass

        return handle

    on_webhook("stripe")(make())
    with pytest.raises(ValueError, match="another webhook handler"):
        on_webhook("stripe")(make())


def test_one_handler_for_two_patterns_runs_once(client: Client, api: ExternalApi) -> None:
    ran: list[str] = []

    @on_webhook("stripe", "invoice.paid")
    @on_webhook("stripe", "invoice.*")
    def note(event: ReceivedEvent) -> None:
        ran.append(event.id)

    receive(client)
    process_due()
    assert ran == ["evt_1"]


def test_without_a_handler_an_event_is_processed(client: Client, api: ExternalApi) -> None:
    row = receive(client)
    process_webhook_events()
    row.refresh_from_db()
    assert (row.status, row.results) == (EventStatus.PROCESSED, {})


def test_a_retry_repeats_only_what_failed(client: Client, api: ExternalApi) -> None:
    done: list[str] = []

    @on_webhook("stripe")
    def works(event: ReceivedEvent) -> None:
        done.append(event.idempotency_key)

    calls = failing(1)
    row = receive(client)
    process_due()
    row.refresh_from_db()
    assert row.status == EventStatus.RECEIVED
    assert {result["status"] for result in row.results.values()} == {"done", "failed"}
    (failed,) = (result for result in row.results.values() if result["status"] == "failed")
    # Where, and not what: the message may quote the payload.
    assert failed["error"].startswith("ValueError at ")
    assert "Canary" not in str(row.results)
    assert process_due() == 0
    let_be_due(row)
    process_due()
    row.refresh_from_db()
    assert row.status == EventStatus.PROCESSED
    assert (len(done), calls) == (1, [1, 2])


def test_the_rhythm_of_retries_and_the_end(client: Client, api: ExternalApi) -> None:
    calls = failing(99, lambda: MissingCredential("There is no access_token."))
    row = receive(client)
    for wait in BACKOFF_SECONDS:
        before = timezone.now()
        process_due()
        row.refresh_from_db()
        assert row.due_at is not None
        assert wait <= (row.due_at - before).total_seconds() <= wait * 1.2 + 2
        let_be_due(row)
    process_due()
    row.refresh_from_db()
    assert (row.status, row.due_at, len(calls)) == (EventStatus.DEAD, None, 7)
    event = AuditEvent.objects.get(action="webhook.dead")
    assert (event.object_id, event.tenant_id) == (row.pk, None)
    assert "MISSING_CREDENTIAL: There is no access_token." in event.changes["problem"]
    assert process_due() == 0


def test_one_that_kills_the_worker_each_time_dies_in_the_end(client: Client, api: ExternalApi) -> None:
    row = receive(client)
    calls = failing(0)
    WebhookEvent.objects.filter(pk=row.pk).update(attempts=7)
    process_due()
    row.refresh_from_db()
    assert (row.status, calls) == (EventStatus.DEAD, [])


def test_what_an_atomic_handler_wrote_goes_with_its_failure(client: Client, api: ExternalApi) -> None:
    @on_webhook("stripe")
    def write_and_fail(event: ReceivedEvent) -> None:
        make_partner(slug="written")
        raise ValueError

    receive(client)
    process_due()
    assert not Partner.objects.exists()


def test_a_handler_that_breaks_its_transaction_has_failed(client: Client, api: ExternalApi) -> None:
    @on_webhook("stripe")
    def collide(event: ReceivedEvent) -> None:
        make_tenant("same")
        make_tenant("same")

    row = receive(client)
    process_due()
    row.refresh_from_db()
    assert row.status == EventStatus.RECEIVED
    assert not Tenant.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_calls_others_holds_no_connection(client: Client, api: ExternalApi) -> None:
    seen: list[object] = []

    @on_webhook("stripe", atomic=False)
    def call(event: ReceivedEvent) -> None:
        seen.append((connection.connection, connection.in_atomic_block))

    row = receive(client)
    process_due()
    row.refresh_from_db()
    assert seen == [(None, False)]
    assert row.status == EventStatus.PROCESSED


@pytest.mark.parametrize("is_atomic", [True, False])
def test_whoever_was_overtaken_leaves_nothing_behind(client: Client, api: ExternalApi, is_atomic: bool) -> None:
    """As after the lease: another worker has claimed the row while the handler ran."""

    @on_webhook("stripe", atomic=is_atomic)
    def be_slow(event: ReceivedEvent) -> None:
        make_partner()
        WebhookEvent.objects.filter(pk=event.row_id).update(fence=99)

    row = receive(client)
    process_due()
    row.refresh_from_db()
    assert (row.status, row.results) == (EventStatus.RECEIVED, {})
    assert Partner.objects.exists() is not is_atomic


@pytest.mark.django_db(transaction=True)
def test_what_fails_after_the_commit_undoes_and_repeats_nothing(client: Client, api: ExternalApi) -> None:
    """As a task that cannot be sent because the broker is away."""

    @on_webhook("stripe")
    def write(event: ReceivedEvent) -> None:
        make_partner(slug=f"attempt-{event.attempt}")
        transaction.on_commit(lambda: 1 / 0)

    row = receive(client)
    process_due()
    row.refresh_from_db()
    assert row.status == EventStatus.PROCESSED
    (result,) = row.results.values()
    assert result["status"] == "done"
    assert result["error"].startswith("after its commit: ZeroDivisionError at ")
    assert Partner.objects.count() == 1
    assert process_due() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError("server closed the connection"), TookTooLong()])
@pytest.mark.parametrize("arrives", [True, False])
def test_an_unknown_end_of_a_commit_is_looked_up(
    client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch, error: BaseException, arrives: bool
) -> None:
    """The connection is lost, or the alarm rings, while PostgreSQL commits what the handler wrote."""
    commits: list[int] = []
    real = connection._commit  # type: ignore[attr-defined]

    def commit_and_fail() -> None:
        commits.append(1)
        if len(commits) > 1 or arrives:
            real()
        if len(commits) == 1:
            raise error

    @on_webhook("stripe")
    def write(event: ReceivedEvent) -> None:
        make_partner(slug=f"attempt-{event.attempt}")

    row = receive(client)
    monkeypatch.setattr(connection, "_commit", commit_and_fail)
    process_due()
    row.refresh_from_db()
    (result,) = row.results.values()
    assert (result["status"], row.status) == (("done", "processed") if arrives else ("failed", "received"))
    assert result["error"].startswith("after its commit: ") is arrives
    let_be_due(row)
    process_due()
    assert Partner.objects.count() == 1


@pytest.mark.parametrize("atomic", [True, False])
def test_a_handler_that_hangs_is_ended(
    client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    monkeypatch.setattr(processing, "_HANDLER_SECONDS", 0.2)

    @on_webhook("stripe", atomic=atomic)
    def hang(event: ReceivedEvent) -> None:
        make_partner()
        try:
            with suppress(Exception):
                Event().wait(30)
        except BaseException as error:  # as asyncio makes of it
            raise asyncio.CancelledError from error

    row = receive(client)
    began = time.monotonic()
    assert process_due() == 1
    assert time.monotonic() - began < 10
    row.refresh_from_db()
    (result,) = row.results.values()
    assert (row.status, result["status"], result["error"]) == ("received", "failed", "it took longer than 0.2 s")
    assert Partner.objects.exists() is not atomic
    # Its alarm is off.
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_hangs_holds_up_no_other_provider(client: Client, api: ExternalApi) -> None:
    """It has one of the two sweeps; the other one takes everybody's events but that provider's."""
    webhook_provider(slug="acme", scheme="stripe")
    has_begun, may_end, done = Event(), Event(), []

    @on_webhook("stripe")
    def hang(event: ReceivedEvent) -> None:
        has_begun.set()
        may_end.wait(20)

    @on_webhook("acme")
    def note(event: ReceivedEvent) -> None:
        done.append(event.id)

    def sweep() -> None:
        process_due()
        connection.close()

    for number in range(3):
        receive(client, f"evt_{number}")
    hanging = Thread(target=sweep)
    hanging.start()
    try:
        assert has_begun.wait(10)
        send(client, stripe_body("evt_quick"), path="acme")
        assert process_due() == 1
        assert done == ["evt_quick"]
        assert sorted(WebhookEvent.objects.values_list("attempts", flat=True)) == [0, 0, 1, 1]
        lives_ms = int(valkey.client().pttl(f"{valkey.PREFIX}sweep:{PROCESS}:stripe:1"))
        assert lives_ms > processing._HANDLER_SECONDS * 1_000, "whether or not anything renews it"
    finally:
        may_end.set()
        hanging.join(20)
    assert set(WebhookEvent.objects.values_list("status", flat=True)) == {"processed"}


def test_providers_take_turns(client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much waits of one, the next one's turn comes."""
    monkeypatch.setattr(processing, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_WAITING", turns._WAITING.replace("LIMIT 100", "LIMIT 2"))
    for slug in ("acme", "other"):
        webhook_provider(slug=slug, scheme="stripe")
    for number, path in enumerate(["stripe"] * 3 + ["acme", "other"]):
        send(client, stripe_body(f"evt_{number}"), path=path)
    assert turns.waiting() == [(api.pk, "stripe"), (ExternalApi.objects.get(slug="acme").pk, "acme")]
    monkeypatch.setattr(processing, "_TURN_SECONDS", 2.0)
    assert process_due() == 5
    assert turns.waiting() == []


@pytest.mark.django_db(transaction=True)
def test_a_query_that_hangs_is_ended_and_the_connection_is_as_good_as_before(
    client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "_HANDLER_SECONDS", 0.2)

    @on_webhook("stripe")
    def hang(event: ReceivedEvent) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")

    row = receive(client)
    process_due()
    row.refresh_from_db()
    assert (row.status, *(result["status"] for result in row.results.values())) == ("received", "failed")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND state = 'active'")
        assert cursor.fetchone() == (0,)


def test_a_handler_that_swallows_the_alarm_hears_it_again(
    client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "_HANDLER_SECONDS", 0.1)
    monkeypatch.setattr(time_limit, "_AGAIN_SECONDS", 0.1)
    heard: list[int] = []

    @on_webhook("stripe", atomic=False)
    def hang(event: ReceivedEvent) -> None:
        for _ in range(2):
            try:
                Event().wait(10)
            except BaseException:
                heard.append(1)
        Event().wait(10)

    row = receive(client)
    began = time.monotonic()
    process_due()
    assert time.monotonic() - began < 5
    row.refresh_from_db()
    assert (len(heard), *(result["status"] for result in row.results.values())) == (2, "failed")


def test_no_handler_begins_after_the_sweep_is_over(
    client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the task ends soon after the one that runs; the others' turn is no further attempt of theirs."""
    calls = [failing(0, name=name) for name in ("first", "second", "third")]
    row = receive(client)
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "watched", lambda: _Watched(lambda: bool(calls[0])))
        assert process_due() == 1
    row.refresh_from_db()
    assert (calls, row.attempts, row.status) == ([[1], [], []], 0, "received")
    assert process_due() == 1
    row.refresh_from_db()
    assert (calls, row.status) == ([[1], [1], [1]], "processed")


def test_the_limits_of_a_handler() -> None:
    """Ended before its lease is over; and one that will not end, with its process when it is another's."""
    lease, task = processing.LEASE.total_seconds(), process_webhook_events.time_limit
    assert lease > processing._HANDLER_SECONDS
    assert task is not None
    assert lease > task - processing._SWEEP_SECONDS > processing._HANDLER_SECONDS
    # The provider's place lives as long by itself: a handler that lets no other thread run keeps it from being renewed.
    assert task < processing._SLOT_MS / 1000


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("atomic", [True, False])
def test_whatever_a_handler_raises_is_its_failure_alone(
    client: Client, api: ExternalApi, error: type[BaseException], atomic: bool
) -> None:
    failing(1, error, atomic=atomic)
    row = receive(client)
    receive(client, "evt_2")
    assert process_due() == 2
    row.refresh_from_db()
    (result,) = row.results.values()
    assert (row.status, result["status"], row.attempts) == (EventStatus.RECEIVED, "failed", 1)
    assert row.due_at is not None
    assert row.due_at < timezone.now() + timedelta(seconds=7), "its lease is over"
    assert set(WebhookEvent.objects.exclude(pk=row.pk).values_list("status", flat=True)) == {"processed"}


def test_events_that_a_tenant_can_sign_reach_only_those_who_ask_for_them(client: Client, api: ExternalApi) -> None:
    """The slug is the shared provider's, and the secret the tenant's own."""
    shared, everybodys = failing(0), []

    @on_webhook("stripe", tenants=True)
    def note(event: ReceivedEvent) -> None:
        everybodys.append(event.tenant_id)

    tenant = make_tenant()
    own = webhook_provider(tenant=tenant, secret="whsec_of_the_tenant_0123456789")
    body = stripe_body("evt_forged", "invoice.paid")
    headers = stripe_headers(body, "whsec_of_the_tenant_0123456789")
    assert send(client, body, path=f"stripe/{own.pk}", headers=headers).status_code == 200
    process_due()
    assert (shared, everybodys) == ([], [tenant.pk])
    receive(client)
    process_due()
    assert (shared, everybodys) == ([1], [tenant.pk, None])


def test_a_worker_that_is_to_stop_begins_no_other(
    client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(0)
    for number in range(3):
        receive(client, f"evt_{number}")
    monkeypatch.setattr(stopping, "watched", lambda: _Watched(lambda: bool(calls)))
    assert process_due() == 1
    left = WebhookEvent.objects.filter(status="received", due_at__lte=timezone.now(), attempts=0)
    assert left.count() == 2


def test_an_event_that_nobody_can_process_is_its_own_problem_alone(client: Client, api: ExternalApi) -> None:
    """A deleted provider, a block that today's model refuses, an endless number: the others have their turn."""
    calls = failing(0)
    refused = webhook_provider(slug="acme", scheme="stripe")

    @on_webhook("acme")
    def run(event: ReceivedEvent) -> None:
        calls.append(99)

    gone = webhook_provider(slug="gone", scheme="stripe")
    make_connection(api)
    for slug in ("acme", "gone"):
        send(client, stripe_body(f"evt_{slug}"), path=slug)
    receive(client, "evt_endless", account="9" * 5_000)
    receive(client, "evt_of_another")
    refused.api_config["webhook"]["scheme"] = "of tomorrow"
    ExternalApi.objects.filter(pk=refused.pk).update(api_config=refused.api_config)
    ExternalApi.objects.filter(pk=gone.pk)._raw_delete("default")
    assert process_due() == 4
    rows = {row.event_id: row for row in WebhookEvent.objects.all()}
    assert {name: row.status for name, row in rows.items()} == {
        "evt_acme": "received",
        "evt_gone": "dead",
        "evt_endless": "processed",
        "evt_of_another": "processed",
    }
    assert calls == [1, 1]
    assert rows["evt_acme"].due_at is not None
    assert rows["evt_acme"].due_at < timezone.now() + timedelta(seconds=BACKOFF_SECONDS[0] * 1.2 + 2)
    assert "no longer there" in AuditEvent.objects.get(action="webhook.dead").changes["problem"]
    # It is tried as often as any other, and then told of.
    WebhookEvent.objects.filter(event_id="evt_acme").update(due_at=timezone.now(), attempts=6)
    assert process_due() == 1
    event = AuditEvent.objects.filter(action="webhook.dead").latest("id")
    assert event.object_id == rows["evt_acme"].pk
    assert event.changes["problem"].startswith("ValidationError at ")


class _Watched:
    def __init__(self, is_told: Callable[[], bool]) -> None:
        self._is_told = is_told

    def __enter__(self) -> Callable[[], bool]:
        return self._is_told

    def __exit__(self, *args: object) -> None:
        pass


def test_the_connection_is_the_one_whose_account_is_named(client: Client, api: ExternalApi) -> None:
    found: list[Any] = []

    @on_webhook("stripe")
    def note(event: ReceivedEvent) -> None:
        found.append(event.connection)

    mine = make_connection(api, slug="mine", provider_data={"stripe_user_id": "acct_1"})
    make_connection(api, slug="other", provider_data={"stripe_user_id": "acct_2"})
    receive(client, "evt_1", account="acct_1")
    receive(client, "evt_2", account="acct_3")
    receive(client, "evt_3")
    process_due()
    assert found == [mine, None, None]


def test_an_event_that_names_another_account_is_not_about_the_only_one(client: Client, api: ExternalApi) -> None:
    found: list[Any] = []

    @on_webhook("stripe")
    def note(event: ReceivedEvent) -> None:
        found.append(event.connection)

    mine = make_connection(api, provider_data={"stripe_user_id": "acct_1"})
    receive(client, "evt_1", account="acct_1")
    receive(client, "evt_2", account="acct_2")
    receive(client, "evt_3", account="9" * 30)
    receive(client, "evt_4")
    process_due()
    assert found == [mine, None, None, mine]


@pytest.mark.parametrize("account", [{"id": "acct_2"}, ["acct_2"], True, "acct_2\0", "\ud800"])
def test_an_account_that_cannot_be_read_is_nobodys(client: Client, api: ExternalApi, account: Any) -> None:
    found: list[Any] = []
    on_webhook("stripe")(lambda event: found.append(event.connection))
    make_connection(api, provider_data={"stripe_user_id": "acct_1"})
    receive(client, account=account)
    process_due()
    assert found == [None]


@pytest.mark.parametrize(
    ("pages", "slug"), [([1], "a"), ([2], "b"), ([1, 2], None), ([1, 1, 9], "a"), ([3], None), (range(100), None)]
)
def test_a_batch_is_about_a_connection_only_as_a_whole(client: Client, pages: Any, slug: str | None) -> None:
    found: list[Any] = []
    on_webhook("facebook")(lambda event: found.append(event.connection and event.connection.slug))
    api = webhook_provider(slug="facebook")
    make_connection(api, slug="a", provider_data={"page_id": "1", "account_id": "9"})
    make_connection(api, slug="b", provider_data={"page_id": "2"})
    body = json.dumps({"object": "page", "entry": [{"id": str(page)} for page in pages]}).encode()
    signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
    send(client, body, path="facebook", headers={"X-Hub-Signature-256": f"sha256={signature}"})
    process_due()
    assert found == [slug]


@pytest.mark.parametrize(
    ("shop", "inside", "slug"),
    [
        ("b.myshopify.com", {}, "b"),
        ("c.myshopify.com", {}, None),
        # What is signed counts for more than a header, which is not.
        ("b.myshopify.com", {"myshopify_domain": "c.myshopify.com"}, None),
        ("c.myshopify.com", {"shop_domain": "b.myshopify.com"}, "b"),
        # Somebody has left it out: it is not the only connection's for that.
        ("", {}, None),
    ],
)
def test_a_shop_that_a_header_names(client: Client, shop: str, inside: dict[str, str], slug: str | None) -> None:
    found: list[Any] = []
    on_webhook("shopify")(lambda event: found.append(event.connection and event.connection.slug))
    make_connection(webhook_provider(slug="shopify"), slug="b", provider_data={"shop": "b.myshopify.com"})
    body = json.dumps({"id": 1, **inside}).encode()
    signature = b64encode(hmac.digest(SECRET.encode(), body, "sha256")).decode()
    headers = {"X-Shopify-Hmac-Sha256": signature, "X-Shopify-Topic": "orders/paid", "X-Shopify-Shop-Domain": shop}
    assert send(client, body, path="shopify", headers=headers).status_code == 200
    process_due()
    assert found == [slug]
    assert (shop or "shopify.com") not in str(WebhookEvent.objects.values("event_id", "event_type", "results").get())


def test_a_tenants_event_is_about_the_tenants_connections(client: Client) -> None:
    found: list[Any] = []

    @on_webhook("stripe", tenants=True)
    def note(event: ReceivedEvent) -> None:
        found.append(event.connection)

    tenant = make_tenant()
    api = webhook_provider(tenant=tenant)
    mine = make_connection(api, slug="mine", tenant=tenant, provider_data={"stripe_user_id": "acct_1"})
    send(client, stripe_body(account="acct_1"), path=f"stripe/{api.pk}")
    process_due()
    assert found == [mine]


def test_what_cannot_be_opened_any_more_fails_and_says_so(client: Client) -> None:
    tenant = make_tenant()
    api = webhook_provider(tenant=tenant)
    failing(0, tenants=True)
    send(client, stripe_body(kind="invoice.paid"), path=f"stripe/{api.pk}")
    WebhookEvent.objects.update(attempts=6)
    shred(tenant)
    process_due()
    assert WebhookEvent.objects.get().status == EventStatus.DEAD
    assert "SEALED_VALUE_UNREADABLE" in AuditEvent.objects.get(action="webhook.dead").changes["problem"]


# --- replay -------------------------------------------------------------------------------------------------------


def test_a_dead_one_is_replayed_from_where_it_failed(client: Client, api: ExternalApi) -> None:
    done: list[str] = []

    @on_webhook("stripe")
    def works(event: ReceivedEvent) -> None:
        done.append(event.idempotency_key)

    calls = failing(1)
    row = receive(client)
    WebhookEvent.objects.update(attempts=6)
    process_due()
    row.refresh_from_db()
    assert row.status == EventStatus.DEAD
    replay(row)
    process_due()
    row.refresh_from_db()
    assert (row.status, len(done), len(calls)) == (EventStatus.PROCESSED, 1, 2)
    assert AuditEvent.objects.get(action="webhook.replayed").changes == {"status": ["dead", "received"]}


def test_a_processed_one_is_replayed_whole_with_the_same_key(client: Client, api: ExternalApi) -> None:
    keys: list[str] = []

    @on_webhook("stripe")
    def works(event: ReceivedEvent) -> None:
        keys.append(event.idempotency_key)

    row = receive(client)
    process_due()
    replay(row)
    process_due()
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_an_ignored_one_can_be_replayed(client: Client) -> None:
    webhook_provider(events=["charge.*"])
    calls = failing(0)
    row = receive(client)
    assert row.status == EventStatus.IGNORED
    replay(row)
    process_due()
    assert calls == [1]


def test_one_that_is_being_tried_is_not_replayed(client: Client, api: ExternalApi) -> None:
    row = receive(client)
    with pytest.raises(Conflict):
        replay(row)


def test_a_replay_without_its_audit_event_is_none(
    client: Client, api: ExternalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = receive(client)
    process_due()

    def fail(*args: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(audit, "record", fail)
    with pytest.raises(RuntimeError), transaction.atomic():
        replay(row)
    row.refresh_from_db()
    assert row.status == EventStatus.PROCESSED


def test_others_find_nothing(client: Client, api: ExternalApi) -> None:
    row = receive(client)
    with pytest.raises(NotFound):
        lookup.find(row.pk, Scope(make_tenant().pk))
    with pytest.raises(NotFound):
        lookup.find(row.pk, Scope(is_sandbox=True))
    with pytest.raises(NotFound):
        lookup.find("wev_\0")
    assert lookup.find(row.pk, Scope(is_sandbox=False)) == row


def test_old_ones_are_forgotten_once_they_are_done(
    client: Client, api: ExternalApi, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_EVENTS_KEPT_DAYS = 2
    now = timezone.now()
    old, recent = now - timedelta(days=2, minutes=1), now - timedelta(days=2, minutes=-1)
    for number in range(5):
        make_webhook_event(api, id=f"{first_id('wev', old)[:-1]}{number}", event_id=f"evt_{number}", finished_at=old)
    make_webhook_event(api, id=first_id("wev", recent), event_id="evt_recent")
    make_webhook_event(api, id=f"{first_id('wev', old)[:-1]}8", event_id="evt_dead_since_now", status=EventStatus.DEAD)
    still = {"status": EventStatus.RECEIVED, "due_at": now, "finished_at": None}
    make_webhook_event(api, id=f"{first_id('wev', old)[:-1]}9", event_id="evt_still_tried", **still)
    for reason, at in (("clock", old), ("secret", now)):
        WebhookRefusal.objects.create(external_api=api, reason=reason, explanation="", first_at=at, last_at=at)
    monkeypatch.setattr(batches, "SIZE", 2)
    assert pruning.prune() == 6
    assert set(WebhookEvent.objects.values_list("event_id", flat=True)) == {
        "evt_recent",
        "evt_dead_since_now",
        "evt_still_tried",
    }
    prune_webhook_events()
    assert WebhookRefusal.objects.get().reason == "secret"


@pytest.mark.parametrize("ahead", [-180, 180])
def test_what_is_due_goes_by_the_databases_clock(client: Client, api: ExternalApi, ahead: int) -> None:
    """The clock of a web process or a worker may be wrong by minutes."""
    leases: list[datetime | None] = []

    @on_webhook("stripe", atomic=False)
    def first(event: ReceivedEvent) -> None:
        pass

    @on_webhook("stripe", "invoice.*", atomic=False)
    def second(event: ReceivedEvent) -> None:
        leases.append(WebhookEvent.objects.values_list("due_at", flat=True).get(pk=event.row_id))
        if event.attempt == 1:
            raise ValueError

    before = timezone.now()
    with time_machine.travel(before + timedelta(seconds=ahead)):
        row = receive(client)
        assert process_due() == 1
        row.refresh_from_db()
        assert row.due_at is not None
        assert 5 <= (row.due_at - before).total_seconds() < 60
        let_be_due(row, at=before)
        assert process_due() == 1
        replay(row)
        assert process_due() == 1
    assert all(lease and 100 < (lease - before).total_seconds() < 179 for lease in leases)


def test_old_ones_are_found_without_reading_the_others(api: ExternalApi) -> None:
    WebhookEvent.objects.create(external_api=api, event_id="first")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO connections_webhookevent SELECT (jsonb_populate_record(first, "
            "jsonb_build_object('id', 'wev_' || number, 'event_id', number))).* "
            "FROM connections_webhookevent AS first, generate_series(1, 3000) AS number"
        )
        cursor.execute("ANALYZE connections_webhookevent")
        cursor.execute(f"EXPLAIN {turns._WAITING}")
        assert "webhook_event_due" in str(cursor.fetchall())
        before = first_id("wev", timezone.now() - timedelta(days=30))
        cursor.execute(f"EXPLAIN {pruning._PRUNE}", {"first": before, "before": timezone.now(), "limit": 5_000})
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan" not in plan, plan
    assert "connections_webhookevent_pkey" in plan
