"""The public route: accepted means stored, once; whatever is refused looks the same."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from hashlib import sha256
from hmac import digest
from typing import Any
from urllib.parse import urlencode

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from twilio.request_validator import RequestValidator

from connections import wakeups
from connections.models import EventStatus, WebhookEvent
from connections.signals import webhook_received
from connections.webhooks import ReceivedEvent, on_webhook
from connections.webhooks.inbound import handlers, receivers
from connections.webhooks.inbound.processing import process_due
from external_apis.models import ExternalApi
from external_apis.providers import delete_external_api, update_external_api
from external_apis.shredding import shred
from tests.factories import make_provider, make_tenant
from tests.inbound import SECRET, send, stripe_body, stripe_headers, webhook_provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the worker was woken for: no worker runs here."""
    found: list[str] = []
    monkeypatch.setattr(wakeups, "_send", found.append)
    return found


def the_event() -> WebhookEvent:
    return WebhookEvent.objects.get()


def refused(response: Any) -> bool:
    """One and the same answer, whatever the reason."""
    told = {name: value for name, value in response.headers.items() if name != "X-Request-Id"}
    assert told == {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Content-Length": "20",
    }
    return (response.status_code, response.content) == (400, b'{"error": "refused"}')


@pytest.mark.django_db(transaction=True)
def test_an_accepted_event_is_stored_sealed_and_the_worker_woken(client: Client, wakes: list[str]) -> None:
    api = webhook_provider()
    body = stripe_body(customer="Zoë Canary")
    response = send(client, body, headers={**stripe_headers(body), "X-Request-Id": "req_of_the_test"})
    assert (response.status_code, response.content) == (200, b"")
    row = the_event()
    assert (row.external_api_id, row.tenant_id) == (api.pk, None)
    assert (row.event_id, row.event_type, row.status) == ("evt_1", "payment_intent.succeeded", EventStatus.RECEIVED)
    assert row.due_at is not None
    assert row.request_id == "req_of_the_test"
    assert row.content == {"body": body.decode(), "content_type": "application/json"}
    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM connections_webhookevent")
        assert b"Canary" not in bytes(cursor.fetchone()[0])
    wakeups._waker.flush(5)
    assert "connections.process_webhook_events" in wakes


def test_receiving_is_one_statement(client: Client, wakes: list[str]) -> None:
    webhook_provider()
    send(client, stripe_body("evt_0"))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert send(client, stripe_body("evt_1")).status_code == 200
    assert [query["sql"].split()[0] for query in queries] == ["INSERT"]


def test_a_repetition_is_accepted_and_changes_nothing(client: Client, wakes: list[str]) -> None:
    webhook_provider()
    assert send(client, stripe_body()).status_code == 200
    before = WebhookEvent.objects.values().get()
    assert send(client, stripe_body(note="another body")).status_code == 200
    assert WebhookEvent.objects.values().get() == before


@pytest.mark.django_db(transaction=True)
def test_one_event_to_many_threads_is_one_row(wakes: list[str]) -> None:
    webhook_provider()
    barrier, answers = threading.Barrier(6), []

    def deliver() -> None:
        barrier.wait()
        answers.append(send(Client(), stripe_body()).status_code)
        connection.close()

    threads = [threading.Thread(target=deliver) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6
    assert WebhookEvent.objects.count() == 1


def test_the_same_id_of_two_providers_is_two_events(client: Client) -> None:
    webhook_provider()
    other = webhook_provider(tenant=make_tenant())
    assert send(client, stripe_body()).status_code == 200
    assert send(client, stripe_body(), path=f"stripe/{other.pk}").status_code == 200
    assert set(WebhookEvent.objects.values_list("tenant_id", flat=True)) == {None, other.tenant_id}


def test_a_tenants_own_is_reached_by_its_id_alone(client: Client) -> None:
    own = webhook_provider(tenant=make_tenant())
    assert refused(send(client, stripe_body()))
    assert refused(send(client, stripe_body(), path=f"github/{own.pk}"))
    assert send(client, stripe_body(), path=f"stripe/{own.pk}").status_code == 200
    assert the_event().tenant_id == own.tenant_id


def test_what_no_entry_of_events_wants_is_acknowledged_and_ignored(client: Client, wakes: list[str]) -> None:
    webhook_provider(events=["invoice.*", "charge.failed"])
    for number, kind in enumerate(("invoice.paid", "charge.failed", "charge.failed.x", "Invoice.paid")):
        assert send(client, stripe_body(f"evt_{number}", kind)).status_code == 200
    found = dict(WebhookEvent.objects.values_list("event_type", "status"))
    assert found == {
        "invoice.paid": "received",
        "charge.failed": "received",
        "charge.failed.x": "ignored",
        "Invoice.paid": "ignored",
    }
    assert not WebhookEvent.objects.filter(status="ignored", due_at__isnull=False).exists()


def test_several_secrets_count_while_one_is_replaced(client: Client) -> None:
    api = webhook_provider(secrets={"next": "whsec_next_one_0123456789"})
    assert send(client, stripe_body("evt_1")).status_code == 200
    body = stripe_body("evt_2")
    assert send(client, body, headers=stripe_headers(body, "whsec_next_one_0123456789")).status_code == 200
    update_external_api(api, {"api_config": {"webhook": {"secret": "whsec_next_one_0123456789", "secrets": None}}})
    receivers.forget()
    assert refused(send(client, stripe_body("evt_3")))
    assert "whsec_next_one" not in json.dumps(ExternalApi.objects.get().api_config)


@pytest.mark.parametrize("away", [-301, 301])
def test_old_and_early_ones_are_refused(client: Client, away: int) -> None:
    webhook_provider()
    body = stripe_body()
    now = int(time.time())
    with time_machine.travel(now, tick=False):
        assert refused(send(client, body, headers=stripe_headers(body, at=now + away)))
        just = away - 1 if away > 0 else away + 1
        assert send(client, body, headers=stripe_headers(body, at=now + just)).status_code == 200


def test_the_tolerance_can_be_set(client: Client) -> None:
    webhook_provider(tolerance_seconds=10)
    body = stripe_body()
    assert refused(send(client, body, headers=stripe_headers(body, at=time.time() - 20)))


def test_whatever_is_refused_looks_the_same(client: Client) -> None:
    body = stripe_body()
    assert refused(send(client, body, path="nobody"))
    assert refused(send(client, body, path="nobody/ext_api_none"))
    assert refused(send(client, body, path="%ff/%ed%a0%80"))
    webhook_provider(slug="off", scheme="stripe", status="inactive")
    webhook_provider(slug="bare", scheme="stripe", secret=None)
    webhook_provider(slug="schemeless")
    make_provider(slug="blockless")
    gone = webhook_provider(slug="gone", scheme="stripe")
    delete_external_api(gone)
    closed = make_tenant()
    mine = webhook_provider(slug="closed", scheme="stripe", tenant=closed)
    closed.is_active = False
    closed.save()
    for path in ("off", "bare", "schemeless", "blockless", "gone", f"gone/{gone.pk}", f"closed/{mine.pk}"):
        assert refused(send(client, body, path=path)), path
    webhook_provider()
    assert refused(send(client, body, headers={}))
    assert refused(send(client, body, headers=stripe_headers(body, "whsec_another_0123456789")))
    assert refused(send(client, body + b" ", headers=stripe_headers(body)))
    assert refused(client.get("/api/webhooks/stripe"))
    assert not WebhookEvent.objects.exists()


def test_ids_and_types_that_are_not_signed_make_no_other_event(client: Client) -> None:
    """Whoever has caught a delivery may send it again, with any header that the signature does not cover."""
    webhook_provider(slug="github", events=["issues", "pull_request", "pull_*", "made-up-*"])
    own = webhook_provider(slug="acme", scheme="hmac", signature_header="X-Sig", event_id_header="X-Id")
    body = b'{"action": "opened"}'
    mac = digest(SECRET.encode(), body, "sha256").hex()
    for number in range(3):
        hub = {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Event": "issues", "X-GitHub-Delivery": f"d-{number}"}
        assert send(client, body, path="github", headers=hub).status_code == 200
        assert send(client, body, path="acme", headers={"X-Sig": mac, "X-Id": f"id-{number}"}).status_code == 200
    assert WebhookEvent.objects.count() == 2
    # The same body about something else is something else, where `events` names that: Shopify sends such.
    hub["X-GitHub-Event"] = "pull_request"
    assert send(client, body, path="github", headers=hub).status_code == 200
    assert WebhookEvent.objects.exclude(external_api=own).count() == 2
    for number in range(3):
        hub["X-GitHub-Event"] = f"made-up-{number}"
        assert send(client, body, path="github", headers=hub).status_code == 200
    # One for whatever is not named, however it is called.
    assert WebhookEvent.objects.exclude(external_api=own).count() == 3
    # Nor does it matter which handlers this process knows: the next one may know others.
    for name in ("made-up-0", "made-up-1"):
        on_webhook("github", name)(lambda event: None)
        hub["X-GitHub-Event"] = name
        assert send(client, body, path="github", headers=hub).status_code == 200
        handlers._handlers.clear()
    assert WebhookEvent.objects.exclude(external_api=own).count() == 3


def test_a_batch_is_the_same_only_if_all_of_it_is(client: Client) -> None:
    webhook_provider(slug="twilio")

    def deliver(*ids: str) -> None:
        body = json.dumps([{"id": name, "type": f"of.{name}"} for name in ids]).encode()
        query = f"bodySHA256={sha256(body).hexdigest()}"
        url = f"{settings.PUBLIC_BASE_URL}/api/webhooks/twilio?{query}"
        headers = {"X-Twilio-Signature": RequestValidator(SECRET).compute_signature(url, {})}
        assert send(client, body, path=f"twilio?{query}", headers=headers).status_code == 204

    for ids in (["A"], ["A", "B"], ["A"], ["A", "B"]):
        deliver(*ids)
    assert [row.types for row in WebhookEvent.objects.order_by("received_at")] == [["of.A"], ["of.A", "of.B"]]
    assert WebhookEvent.objects.filter(event_id="A").exists()


def test_a_batch_of_ones_own_scheme_is_the_same_only_if_all_of_it_is(client: Client) -> None:
    webhook_provider(slug="acme", scheme="hmac", signature_header="X-Sig", event_id_path="events.*.id")

    def deliver(items: list[Any]) -> str:
        body = json.dumps({"events": items}).encode()
        headers = {"X-Sig": digest(SECRET.encode(), body, "sha256").hex()}
        assert send(client, body, path="acme", headers=headers).status_code == 200
        return WebhookEvent.objects.latest("received_at").event_id

    batches: list[list[Any]] = [
        [{"id": 1}, {"id": 2}],
        [{"id": 1}, {"id": 3}],
        [{"id": 1}, {}],
        [{}, {"id": 1}],
        [None],
        [{"id": 1}],
    ]
    found = [deliver(items) for items in batches]
    assert len(set(found)) == WebhookEvent.objects.count() == len(batches)
    assert found[-1] == "1"
    # The ids are the event's, whatever else stands in the body; where one is missing the body is.
    deliver([{"id": 1, "try": 2}, {"id": 2}])
    assert WebhookEvent.objects.count() == len(batches)
    deliver([{"id": 1, "try": 2}, {}])
    assert WebhookEvent.objects.count() == len(batches) + 1


@pytest.mark.parametrize("fields", [{"id": "1", "type": "paid"}, {"payload": '{"id": 1}'}, {"a": "", "id": "1"}])
def test_the_kind_of_a_body_is_not_signed_and_makes_no_other_event(client: Client, fields: dict[str, str]) -> None:
    webhook_provider(slug="acme", scheme="hmac", signature_header="X-Sig", event_id_path="id")
    webhook_provider(slug="slack")
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json", ""):
        body = urlencode(fields).replace("a=&", "a&").encode()
        headers = {"X-Sig": digest(SECRET.encode(), body, "sha256").hex()}
        assert send(client, body, path="acme", headers=headers, content_type=kind).status_code == 200
        body = urlencode({"command": "/pay", "trigger_id": "t1"}).encode()
        assert send(client, body, path="slack", headers=slack_headers(body), content_type=kind).status_code == 200
    assert set(WebhookEvent.objects.values_list("event_id", flat=True)) == {"1", "t1"}
    assert WebhookEvent.objects.count() == 2


def test_every_type_of_a_batch_is_kept(client: Client) -> None:
    webhook_provider(slug="facebook")
    fields = [f"a_field_with_a_long_name_{number % 40}" for number in range(3_000)] + ["last"]
    body = json.dumps({"object": "page", "entry": [{"changes": [{"field": name} for name in fields]}]}).encode()
    headers = {"X-Hub-Signature-256": f"sha256={digest(SECRET.encode(), body, 'sha256').hex()}"}
    assert send(client, body, path="facebook", headers=headers).status_code == 200
    row = the_event()
    assert (len(row.types), row.types[-1]) == (41, "last")
    assert len(row.event_type) <= 200
    found: list[str] = []

    @on_webhook("facebook", "last")
    def note(event: ReceivedEvent) -> None:
        found.extend(event.types)

    process_due()
    assert found == row.types


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of what is known of providers; it stands where its one item says."""
    now = [1_000.0]
    monkeypatch.setattr(receivers, "monotonic", lambda: now[0])
    return now


def test_a_change_counts_within_a_second(client: Client, clock: list[float]) -> None:
    api = webhook_provider()
    assert send(client, stripe_body("evt_1")).status_code == 200
    # Past every service, as SQL would.
    ExternalApi.objects.filter(pk=api.pk).update(status="inactive")
    clock[0] += 1.0
    assert refused(send(client, stripe_body("evt_2")))


def test_opened_secrets_do_not_outlive_their_key(client: Client, clock: list[float]) -> None:
    tenant = make_tenant()
    api = webhook_provider(tenant=tenant)
    assert send(client, stripe_body("evt_1"), path=f"stripe/{api.pk}").status_code == 200
    shred(tenant)
    clock[0] += 1.0
    assert send(client, stripe_body("evt_2"), path=f"stripe/{api.pk}").status_code != 200


def test_a_provider_is_looked_up_once_a_second(
    client: Client, clock: list[float], django_assert_num_queries: Any
) -> None:
    webhook_provider()
    send(client, stripe_body("evt_0"))
    receivers.forget()
    with django_assert_num_queries(1 + 20):
        for number in range(20):
            send(client, stripe_body(f"evt_{number + 1}"))
            clock[0] += 0.04
    clock[0] += 0.5
    with django_assert_num_queries(2):
        send(client, stripe_body("evt_21"))


def test_nobody_waits_behind_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for one look-up share its error, rather than each trying in turn."""
    tried, may_fail = [], threading.Event()

    def load(slug: str, api_id: str) -> receivers.Receiver:
        tried.append(slug)
        assert may_fail.wait(10)
        raise OSError("away")

    monkeypatch.setattr(receivers, "_load", load)
    failed = []

    def find() -> None:
        with pytest.raises(OSError, match="away"):
            receivers.find("stripe")
        failed.append(True)

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    while "stripe" not in tried:
        threading.Event().wait(0.001)
    coming = receivers._shelf._coming["stripe", ""]
    while len(coming._condition._waiters) < 7:  # type: ignore[attr-defined]
        threading.Event().wait(0.001)
    may_fail.set()
    for thread in threads:
        thread.join()
    assert len(failed) == 8
    assert tried == ["stripe"]


@pytest.mark.parametrize("length", ["x", "-1", "9" * 30])
def test_lengths_that_are_none(client: Client, length: str) -> None:
    webhook_provider()
    response = client.post("/api/webhooks/stripe", b"", content_type="application/json", CONTENT_LENGTH=length)
    assert response.status_code in (400, 413)


def test_a_long_body_is_not_read(client: Client, settings: Any) -> None:
    webhook_provider()
    settings.MAX_BODY_BYTES = 1024
    body = stripe_body(text="x" * 2000)
    assert send(client, body).status_code == 413
    assert not WebhookEvent.objects.exists()


def test_other_methods(client: Client) -> None:
    response = client.put("/api/webhooks/stripe", b"{}")
    assert (response.status_code, response["Allow"]) == (405, "GET, POST")


def test_a_body_that_is_no_text_is_kept_as_it_is(client: Client) -> None:
    webhook_provider()
    body = b"\xff\xfe\x00" + stripe_body()
    assert send(client, body).status_code == 200
    row = the_event()
    assert row.content["body_base64"] == b64encode(body).decode()
    assert row.event_id == f"sha256:{sha256(b'.' + body).hexdigest()}"
    assert row.event_type == ""


@pytest.mark.parametrize("given", ["x" * 201, "x" * 100_000])
def test_an_endless_id_is_still_one_id(client: Client, given: str) -> None:
    webhook_provider()
    for _ in range(2):
        assert send(client, stripe_body(given, "t" * 300)).status_code == 200
    row = the_event()
    assert row.event_id == f"sha256:{sha256(given.encode()).hexdigest()}"
    assert row.event_type == "t" * 200


def test_slack_asks_whether_the_address_is_ours(client: Client) -> None:
    webhook_provider(slug="slack")
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"})
    response = send(client, body.encode(), path="slack", headers=slack_headers(body.encode()))
    assert response.content == b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    assert response["Content-Type"].startswith("text/plain")
    assert not WebhookEvent.objects.exists()
    assert refused(send(client, body.encode(), path="slack", headers=slack_headers(body.encode(), "another")))


def slack_headers(body: bytes, secret: str = SECRET) -> dict[str, str]:
    stamp = str(int(time.time()))
    mac = digest(secret.encode(), f"v0:{stamp}:".encode() + body, "sha256").hex()
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}


def test_slacks_repetitions_are_one_event(client: Client) -> None:
    webhook_provider(slug="slack")
    body = json.dumps({"type": "event_callback", "event_id": "Ev1", "team_id": "T1", "event": {"type": "app_mention"}})
    for number in range(3):
        retry = {"X-Slack-Retry-Num": str(number), "X-Slack-Retry-Reason": "http_timeout"} if number else {}
        headers = {**slack_headers(body.encode()), **retry}
        assert send(client, body.encode(), path="slack", headers=headers).status_code == 200
    row = the_event()
    assert (row.event_id, row.event_type) == ("Ev1", "app_mention")


@pytest.mark.parametrize(
    ("query", "is_answered"),
    [
        ({}, True),
        ({"hub.verify_token": "wrong"}, False),
        ({"hub.verify_token": ""}, False),
        ({"hub.mode": "unsubscribe"}, False),
        ({"hub.challenge": ""}, False),
        ({"hub.challenge": "9" * 2001}, False),
    ],
)
def test_meta_asks_whether_the_address_is_ours(client: Client, query: dict[str, str], is_answered: bool) -> None:
    """https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests"""
    webhook_provider(slug="facebook", verify_token="verify-me")
    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "verify-me", **query}
    response = client.get("/api/webhooks/facebook", asked)
    if is_answered:
        assert (response.status_code, response.content) == (200, b"1158201444")
        assert response["Content-Type"].startswith("text/plain")
    else:
        assert refused(response)


def test_a_challenge_without_a_verify_token_is_refused(client: Client) -> None:
    webhook_provider(slug="facebook")
    asked = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": ""}
    assert refused(client.get("/api/webhooks/facebook", asked))
    webhook_provider(verify_token="verify-me")
    assert refused(client.get("/api/webhooks/stripe", {**asked, "hub.verify_token": "verify-me"}))


def test_twilio_signs_the_public_address(client: Client, settings: Any) -> None:
    settings.PUBLIC_BASE_URL = "https://api.us.example"
    webhook_provider(slug="twilio")
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "Body": "Zoë & co"}
    url = "https://api.us.example/api/webhooks/twilio?tag=a%20b"
    headers = {"X-Twilio-Signature": RequestValidator(SECRET).compute_signature(url, fields)}
    form = "application/x-www-form-urlencoded"
    body = urlencode(fields).encode()
    # A token that is not signed, and another order that is signed alike, make no other event of it.
    for number, sent in enumerate(
        (body, urlencode(dict(reversed(fields.items()))).encode(), body + b"&Body=Zo%C3%AB+%26+co")
    ):
        headers["I-Twilio-Idempotency-Token"] = f"token-{number}"
        response = send(client, sent, path="twilio?tag=a%20b", headers=headers, content_type=form)
        assert (response.status_code, response.content) == (204, b"")
    row = the_event()
    assert (row.event_id[:7], row.event_type) == ("sha256:", "delivered")
    assert refused(send(client, body, path="twilio?tag=other", headers=headers, content_type=form))


def test_fields_of_one_signature_are_one_event_wherever_they_are_cut(client: Client) -> None:
    """Twilio signs names and values with nothing in between."""
    webhook_provider(slug="twilio")
    fields = {"Body": "yes", "From": "+1555", "MessageStatus": "delivered"}
    url = f"{settings.PUBLIC_BASE_URL}/api/webhooks/twilio"
    headers = {"X-Twilio-Signature": RequestValidator(SECRET).compute_signature(url, fields)}
    flat = "".join(name + value for name, value in sorted(fields.items()))
    for sent in (fields, *({flat[:cut]: flat[cut:]} for cut in range(1, 12))):
        form = "application/x-www-form-urlencoded"
        response = send(client, urlencode(sent).encode(), path="twilio", headers=headers, content_type=form)
        assert response.status_code == 204
    assert the_event().types == ["delivered"]


def test_whatever_is_signed_but_the_time_tells_events_apart(client: Client, settings: Any) -> None:
    signed = {"signature_header": "X-Sig", "timestamp_header": "X-Time", "signed_payload": "{timestamp}{url}{body}"}
    webhook_provider(slug="acme", scheme="hmac", **signed)
    for query, ago in (("order=1", 0), ("order=2", 0), ("order=2", 9)):
        stamp = str(int(time.time()) - ago)
        text = f"{stamp}{settings.PUBLIC_BASE_URL}/api/webhooks/acme?{query}" + "{}"
        headers = {"X-Sig": digest(SECRET.encode(), text.encode(), "sha256").hex(), "X-Time": stamp}
        assert send(client, b"{}", path=f"acme?{query}", headers=headers).status_code == 200
    assert WebhookEvent.objects.count() == 2


def test_two_batches_of_one_body_at_two_addresses_are_two(client: Client) -> None:
    webhook_provider(slug="twilio")
    for tag in "ab":
        query = f"tag={tag}&bodySHA256={sha256(b'[]').hexdigest()}"
        url = f"{settings.PUBLIC_BASE_URL}/api/webhooks/twilio?{query}"
        headers = {"X-Twilio-Signature": RequestValidator(SECRET).compute_signature(url, {})}
        assert send(client, b"[]", path=f"twilio?{query}", headers=headers).status_code == 204
    assert WebhookEvent.objects.count() == 2


def test_the_seeds_own_configuration_receives(client: Client) -> None:
    """Seed 000's block has url, secret and events, and names no scheme."""
    webhook_provider(slug="facebook", events=["feed", "comments", "reactions"])
    body = json.dumps({"object": "page", "entry": [{"changes": [{"field": "about"}, {"field": "feed"}]}]}).encode()
    headers = {"X-Hub-Signature-256": f"sha256={digest(SECRET.encode(), body, 'sha256').hex()}"}
    for _ in range(2):
        assert send(client, body, path="facebook", headers=headers).status_code == 200
    row = the_event()
    assert (row.event_type, row.status) == ("about,feed", EventStatus.RECEIVED)


def test_receivers_of_the_signal_are_told_and_may_fail(client: Client) -> None:
    api = webhook_provider()
    told = []

    def fail(**facts: Any) -> None:
        raise RuntimeError("a receiver's own")

    def note(**facts: Any) -> None:
        told.append((facts["event_id"], facts["external_api_id"], facts["tenant_id"], facts["event_type"]))

    webhook_received.connect(fail)
    webhook_received.connect(note)
    try:
        assert send(client, stripe_body()).status_code == 200
        assert send(client, stripe_body()).status_code == 200
    finally:
        webhook_received.disconnect(fail)
        webhook_received.disconnect(note)
    assert told == [(the_event().pk, api.pk, None, "payment_intent.succeeded")]
