"""``/api/external/webhook-events`` and ``/webhook-refusals``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import WebhookEvent, WebhookRefusal
from connections.webhooks import ReceivedEvent, on_webhook
from connections.webhooks.inbound.processing import process_due
from external_apis.models import AuditEvent
from tests.exsvc import bearer
from tests.factories import make_key, make_tenant
from tests.inbound import send, stripe_body, webhook_provider
from tests.rest import with_key

pytestmark = pytest.mark.django_db
EVENTS, REFUSALS = "/api/external/webhook-events", "/api/external/webhook-refusals"


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [item["eventId"] for item in response.json()["data"]]


def test_a_list_and_its_filters(client: Client) -> None:
    api = webhook_provider(events=["invoice.*"])
    other = webhook_provider(tenant=make_tenant())
    send(client, stripe_body("evt_1", "invoice.paid"))
    send(client, stripe_body("evt_2", "charge.failed"))
    send(client, stripe_body("evt_3"), path=f"stripe/{other.pk}")
    # Ids of one millisecond are in any order.
    for number in (1, 2, 3):
        WebhookEvent.objects.filter(event_id=f"evt_{number}").update(id=f"wev_{number}")
    rest = with_key()
    assert ids(rest.get(EVENTS)) == ["evt_3", "evt_2", "evt_1"]
    for query, found in (
        ("status=ignored", ["evt_2"]),
        (f"externalApiId={api.pk}", ["evt_2", "evt_1"]),
        (f"salesChannelId={other.tenant_id}", ["evt_3"]),
        ("eventType=invoice.paid", ["evt_1"]),
        (f"event=evt_3&externalApiId={other.pk}", ["evt_3"]),
        ("status=received", ["evt_3", "evt_1"]),
        ("from=2000-01-01T00:00:00Z", ["evt_3", "evt_2", "evt_1"]),
        ("from=2000-01-01T00:00:00Z&to=2001-01-01T00:00:00Z", []),
        ("perPage=1&page=2", ["evt_2"]),
    ):
        assert ids(rest.get(f"{EVENTS}?{query}")) == found, query
    for query in ("status=other", "from=0113-12-24T11:58:16%2B23:42", "event=%00", "eventType=%00", "event=evt_3"):
        assert rest.get(f"{EVENTS}?{query}").status_code == 400, query


def test_one_event_with_its_payload_and_outcomes(client: Client) -> None:
    api = webhook_provider()

    @on_webhook("stripe")
    def fail(event: ReceivedEvent) -> None:
        raise ValueError("Canary")

    send(client, stripe_body(customer="cus_1"))
    process_due()
    row = WebhookEvent.objects.get()
    shown = with_key().get(f"{EVENTS}/{row.pk}").json()["data"]
    assert shown["payload"]["customer"] == "cus_1"
    assert (shown["externalApiId"], shown["provider"], shown["status"]) == (api.pk, "stripe", "received")
    (outcome,) = shown["results"]
    assert (outcome["status"], outcome["attempts"], outcome["handler"]) == ("failed", 1, fail_name(fail))
    assert outcome["error"].startswith("ValueError at ")


def fail_name(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


DEEP = "[" * 300 + "]" * 300


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"\xff\xfe", None),
        *((text.encode(), text) for text in ("no json", DEEP, '["\\ud800"]', '{"\\udc80": 1}', "[NaN]")),
    ],
)
def test_payloads_that_are_no_json(client: Client, body: bytes, payload: str | None) -> None:
    webhook_provider()
    assert send(client, body).status_code == 200
    assert with_key().get(f"{EVENTS}/{WebhookEvent.objects.get().pk}").json()["data"]["payload"] == payload


def test_a_replay(client: Client) -> None:
    webhook_provider()
    send(client, stripe_body())
    row, rest = WebhookEvent.objects.get(), with_key()
    path = f"{EVENTS}/{row.pk}/replay"
    assert rest.send("post", path).status_code == 409
    WebhookEvent.objects.update(attempts=1, due_at=timezone.now() + timedelta(seconds=100))  # as under its lease
    assert rest.send("post", path).status_code == 409
    WebhookEvent.objects.update(attempts=5, due_at=timezone.now() + timedelta(hours=1))
    answer = rest.send("post", path)
    assert (answer.status_code, answer.json()["data"]["attempts"]) == (202, 5)
    assert AuditEvent.objects.get(action="webhook.replayed").changes == {"attempts": [5, 6]}
    AuditEvent.objects.all().delete()
    process_due()
    answer = rest.send("post", path)
    assert (answer.status_code, answer.json()["data"]["status"]) == (202, "received")
    event = AuditEvent.objects.get(action="webhook.replayed")
    assert (event.actor, event.object_id) == ("key:ADMIN_API_KEY", row.pk)


def test_scopes_and_tenants(client: Client) -> None:
    mine, theirs = make_tenant(), make_tenant()
    api = webhook_provider(tenant=theirs)
    send(client, stripe_body(), path=f"stripe/{api.pk}")
    now = timezone.now()
    refusal = {"external_api": api, "tenant": theirs, "first_at": now, "last_at": now, "count": 3}
    WebhookRefusal.objects.create(reason="clock", explanation="Late.", **refusal)
    row = WebhookEvent.objects.get()
    reader = bearer(make_key(tenant=theirs, scopes=["webhooks:read"]).token)
    assert ids(reader.get(EVENTS)) == ["evt_1"]
    (shown,) = reader.get(REFUSALS).json()["data"]
    assert (shown["reason"], shown["explanation"], shown["count"]) == ("clock", "Late.", 3)
    assert reader.send("post", f"{EVENTS}/{row.pk}/replay").status_code == 403
    stranger = bearer(make_key(tenant=mine, scopes=["*"]).token)
    assert ids(stranger.get(EVENTS)) == []
    assert stranger.get(REFUSALS).json()["data"] == []
    assert stranger.get(f"{EVENTS}/{row.pk}").status_code == 404
    assert stranger.send("post", f"{EVENTS}/{row.pk}/replay").status_code == 404
    assert bearer(make_key(scopes=["providers:read"]).token).get(EVENTS).status_code == 403


def test_a_test_key_sees_the_sandbox_alone(client: Client) -> None:
    webhook_provider(slug="live", scheme="stripe")
    webhook_provider(slug="trial", scheme="stripe", is_sandbox=True)
    for slug in ("live", "trial"):
        assert send(client, stripe_body(f"evt_{slug}"), path=slug).status_code == 200
    assert ids(bearer(make_key(mode="test", scopes=["*"]).token).get(EVENTS)) == ["evt_trial"]


def test_queries_do_not_grow_with_the_page(client: Client) -> None:
    webhook_provider()
    send(client, stripe_body("evt_0"))
    rest = with_key()
    rest.get(EVENTS)
    with CaptureQueriesContext(connection) as few:
        rest.get(EVENTS)
    for number in range(9):
        send(client, stripe_body(f"evt_{number + 1}"))
    with CaptureQueriesContext(connection) as many:
        rest.get(EVENTS)
    assert len(many) == len(few) <= 3
    # What is sealed is not even loaded.
    assert not any('"content"' in query["sql"] for query in many)
