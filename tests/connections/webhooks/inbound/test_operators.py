"""What people have: the admin's pages and ``manage.py webhooks``."""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin import site
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.admin import webhook_events
from connections.models import EventStatus, WebhookEvent, WebhookRefusal
from connections.sandbox.definitions import WEBHOOK_SLUG
from connections.seeding import seed_sandbox
from connections.webhooks.inbound.processing import process_due
from external_apis.models import AuditEvent, ExternalApi
from tests.factories import make_tenant, make_user
from tests.inbound import make_webhook_event, send, stripe_body, webhook_provider
from tests.web import Web

EVENTS, REFUSALS = "/admin/connections/webhookevent/", "/admin/connections/webhookrefusal/"
ALL = [f"connections.{action}_{model}" for action in ("view", "change") for model in ("webhookevent", "webhookrefusal")]


def refuse(api: ExternalApi) -> None:
    now = timezone.now()
    WebhookRefusal.objects.create(
        external_api=api,
        tenant_id=api.tenant_id,
        reason="clock",
        explanation="The clock is wrong.",
        count=3,
        first_at=now,
        last_at=now,
    )


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(make_user("operator", is_superuser=True))
    return client


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("webhooks", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_the_list_loads_nothing_sealed_and_asks_as_often_for_many(operator: Client) -> None:
    api = webhook_provider()
    make_webhook_event(api)
    operator.get(EVENTS)
    with CaptureQueriesContext(connection) as few:
        assert "evt_made" in operator.get(EVENTS).content.decode()
    for number in range(20):
        make_webhook_event(api, event_id=f"evt_{number}")
    with CaptureQueriesContext(connection) as many:
        operator.get(EVENTS)
    assert len(many) == len(few)
    assert not any('"content"' in query["sql"] for query in many)


@pytest.mark.django_db
def test_a_page_shows_payload_and_outcomes(operator: Client) -> None:
    results = {"app.mark_paid": {"status": "failed", "attempts": 2, "at": "now", "error": "ValueError at app:7"}}
    body = {"body": '{"name": "<b>Zoë</b>"}', "content_type": "application/json"}
    row = make_webhook_event(results=results, content=body, status=EventStatus.DEAD)
    page = operator.get(f"{EVENTS}{row.pk}/change/").content.decode()
    assert "app.mark_paid: failed (attempt 2, now) ValueError at app:7" in page
    assert "&lt;b&gt;Zoë&lt;/b&gt;" in page
    assert "Replay" in page


@pytest.mark.django_db
def test_the_list_says_what_became_of_each(operator: Client) -> None:
    results = {"app.mark_paid": {"status": "failed", "attempts": 2, "at": "now", "error": "ValueError at app:7"}}
    waits: dict[str, Any] = {"status": EventStatus.RECEIVED, "due_at": timezone.now() + timedelta(hours=1)}
    row = make_webhook_event(event_id="evt_again", attempts=3, results=results, **waits)
    make_webhook_event(row.external_api, event_id="evt_alone")
    make_webhook_event(row.external_api, event_id="evt_ignored", status=EventStatus.IGNORED)
    page = operator.get(EVENTS).content.decode()
    for words in (
        "waiting to be tried again",
        "app.mark_paid: ValueError at app:7",
        "no handler took it",
        "no entry of",
    ):
        assert page.count(words) == 1, words
    assert "Try now" in operator.get(f"{EVENTS}{row.pk}/change/").content.decode()
    operator.post(f"{EVENTS}{row.pk}/replay/")
    row.refresh_from_db()
    assert row.due_at is not None
    assert (row.due_at <= timezone.now(), row.attempts) == (True, 3)


@pytest.mark.django_db
def test_searching_reads_no_more_than_the_latest(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_events, "_SEARCHED", 2)
    api = webhook_provider()
    rows = [make_webhook_event(api, id=f"wev_{number}", event_id=f"evt_{number}") for number in range(3)]
    for term, found in (("evt_0", False), ("evt_1", True), (rows[0].pk, True)):
        answer = operator.get(EVENTS, {"q": term})
        assert answer.context["cl"].queryset.count() == found, term


@pytest.mark.django_db
def test_what_is_too_deep_or_too_long_to_lay_out_is_shown_as_it_came(operator: Client) -> None:
    deep, wide = "[" * 400 + "1," * 50_000 + "1" + "]" * 400, "[" * 19 + "1," * 50_000 + "1" + "]" * 19
    pages = site.get_model_admin(WebhookEvent)
    assert isinstance(pages, webhook_events.WebhookEventAdmin)
    api = webhook_provider()
    rows = [make_webhook_event(api, event_id=text[:50], content={"body": text}) for text in (deep, wide)]
    for row, text in zip(rows, (deep, wide), strict=True):
        tracemalloc.start()
        try:
            shown_text = pages.shown_payload(row)
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()
        assert text[:1_000] in shown_text
    assert deep[:1_000] in operator.get(f"{EVENTS}{rows[0].pk}/change/").content.decode()
    assert json.loads(run("show", rows[0].pk))["payload"] == deep


@pytest.mark.django_db
def test_replaying_in_the_admin(operator: Client) -> None:
    row = make_webhook_event(status=EventStatus.DEAD)
    assert operator.get(f"{EVENTS}{row.pk}/replay/").status_code == 405
    operator.post(f"{EVENTS}{row.pk}/replay/")
    row.refresh_from_db()
    assert row.status == EventStatus.RECEIVED
    assert AuditEvent.objects.get(action="webhook.replayed").actor == "user:operator"
    answer = operator.post(f"{EVENTS}{row.pk}/replay/", follow=True)
    assert "is not processed yet" in answer.content.decode()
    process_due()
    other = make_webhook_event(row.external_api, event_id="evt_2")
    data = {"action": "replay_selected", "_selected_action": [row.pk, other.pk]}
    assert "Replayed: 2." in operator.post(EVENTS, data, follow=True).content.decode()


@pytest.mark.django_db
def test_another_tenants_are_missing(client: Client) -> None:
    mine, theirs = make_tenant(), make_tenant()
    row = make_webhook_event(webhook_provider(tenant=theirs))
    refuse(row.external_api)
    client.force_login(make_user(tenant=mine, permissions=ALL))
    assert "evt_made" not in client.get(EVENTS).content.decode()
    assert "The clock is wrong." not in client.get(REFUSALS).content.decode()
    assert client.post(f"{EVENTS}{row.pk}/replay/").status_code == 404
    client.force_login(make_user(tenant=theirs, permissions=ALL))
    assert "evt_made" in client.get(EVENTS).content.decode()
    assert "The clock is wrong." in client.get(REFUSALS).content.decode()


@pytest.mark.django_db
def test_whoever_only_looks_replays_nothing(client: Client) -> None:
    row = make_webhook_event()
    client.force_login(make_user(permissions=["connections.view_webhookevent"]))
    assert "Replay" not in client.get(f"{EVENTS}{row.pk}/change/").content.decode()
    assert client.post(f"{EVENTS}{row.pk}/replay/").status_code == 404
    row.refresh_from_db()
    assert row.status == EventStatus.PROCESSED


@pytest.mark.django_db
def test_the_providers_page_has_the_address_to_paste(operator: Client, settings: Any) -> None:
    settings.PUBLIC_BASE_URL = "https://us.example.com"
    shared, own = webhook_provider(), webhook_provider(tenant=make_tenant())
    refuse(own)
    pages = [operator.get(f"/admin/external_apis/externalapi/{api.pk}/change/") for api in (shared, own)]
    assert "https://us.example.com/api/webhooks/stripe</code>" in pages[0].content.decode()
    assert f"https://us.example.com/api/webhooks/stripe/{own.pk}</code>" in pages[1].content.decode()
    assert "3 times: The clock is wrong." in pages[1].content.decode()


@pytest.mark.django_db
def test_the_command_lists_shows_and_replays(client: Client) -> None:
    api = webhook_provider()
    send(client, stripe_body(customer="cus_1"))
    refuse(api)
    row = WebhookEvent.objects.get()
    assert run("list").split("\t")[:5] == [row.pk, "stripe", "payment_intent.succeeded", "evt_1", "received"]
    assert run("list", "--status", "dead") == run("list", "--provider", "nobody") == ""
    assert json.loads(run("show", row.pk))["payload"]["customer"] == "cus_1"
    assert "The clock is wrong." in run("refused")
    with pytest.raises(CommandError, match="not processed yet"):
        run("replay", row.pk)
    process_due()
    assert run("replay", row.pk) == f"{row.pk} is processed once more.\n"
    assert AuditEvent.objects.get(action="webhook.replayed").actor == "command:webhooks replay"
    with pytest.raises(CommandError, match="not found"):
        run("show", "wev_none")


@pytest.mark.django_db(transaction=True)
def test_test_events_of_every_scheme_arrive_over_real_sockets(web: Web, settings: Any) -> None:
    settings.PORT, settings.PUBLIC_BASE_URL = web.port, web.url
    seed_sandbox("http://127.0.0.1:1")
    webhook_provider(events=["invoice.*"])
    assert "ignored, no entry of" in run("send-test", "stripe", "charge.failed")
    WebhookEvent.objects.all().delete()
    run("send-test", WEBHOOK_SLUG, "invoice.paid")
    assert WebhookEvent.objects.get().external_api.slug == WEBHOOK_SLUG
    for scheme in ("stripe", "github", "meta", "slack", "shopify", "twilio", "standard", "hmac"):
        more: dict[str, Any] = {"secret": "whsec_c2FuZGJveCBzYW5kYm94IHNhbmRib3gh"}
        if scheme == "hmac":
            more |= {"signature_header": "X-Sig", "event_type_path": "type", "event_id_path": "data.id"}
        api = webhook_provider(slug=f"tests-{scheme}", scheme=scheme, **more)
        told = run("send-test", api.pk, "invoice.paid", "--data", '{"amount": 5}')
        row = WebhookEvent.objects.get(external_api=api)
        assert "answered 20" in told
        assert f"It is {row.pk}: received." in told
        assert (row.event_type, row.status) == ("invoice.paid", EventStatus.RECEIVED)


@pytest.mark.django_db
def test_what_cannot_be_sent(settings: Any) -> None:
    webhook_provider(slug="sendgrid")
    webhook_provider(secret=None)
    webhook_provider(slug="slack")
    settings.PORT = 1
    for arguments, problem in (
        (("sendgrid", "bounce"), "public key"),
        (("stripe", "x"), "no secret"),
        (("nobody", "x"), "not found"),
        (("slack", "x"), "Nobody answers"),
        (("slack", "x", "--data", "[]"), "not a JSON object"),
        (("slack", "x", "--data", "{"), "not JSON"),
    ):
        with pytest.raises(CommandError, match=problem):
            run("send-test", *arguments)
