"""The admin's pages of webhook endpoints."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import DeliveryAttempt, WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound import endpoints
from connections.webhooks.outbound.delivery import deliver_due
from tests.factories import make_tenant, make_user
from tests.webhook_receiver import Receiver, Reply, make_delivery, make_endpoint

pytestmark = pytest.mark.django_db
LIST = "/admin/connections/webhookendpoint/"
RIGHTS = [f"connections.{action}_webhookendpoint" for action in ("view", "add", "change", "delete")]


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in(make_user(is_superuser=True))


def text_of(response: Any) -> str:
    return str(response.content.decode())


def test_a_new_secret_is_shown_once_and_repeating_the_page_repeats_nothing(operator: Client) -> None:
    response = operator.post(f"{LIST}add/", {"url": "https://hooks.example.com/in", "events": ["grant.*"]})
    row = WebhookEndpoint.objects.get()
    assert row.events == ["grant.*"]
    assert response.status_code == 302
    before = row.secrets["secret"]
    assert before not in str(list(Session.objects.values())) + str(operator.session.items()) + response["Location"]
    assert operator.head(response["Location"]).status_code == 405, "it would use the page up"
    page = operator.get(response["Location"])
    assert before in text_of(page)
    assert "its new secret" not in text_of(page)
    assert "no-store" in page["Cache-Control"]
    again = text_of(operator.get(response["Location"], follow=True))
    assert before not in again
    assert "shown" in again
    assert "Send test event" in again
    rolled = operator.post(f"{LIST}{row.pk}/roll/", {"overlap_seconds": "60"})
    assert rolled.status_code == 302
    row = WebhookEndpoint.objects.get()
    after = row.secrets["secret"]
    assert after != before
    assert before in row.secrets.values()
    other = signed_in(make_user(username="other", is_superuser=True))
    assert after not in text_of(other.get(rolled["Location"], follow=True)), "only who has rolled it"
    assert after in text_of(operator.get(rolled["Location"]))
    operator.get(rolled["Location"])
    assert WebhookEndpoint.objects.get().secrets["secret"] == after


def test_no_other_secret_than_the_one_that_was_made_is_shown(operator: Client) -> None:
    row = make_endpoint(None)
    first = operator.post(f"{LIST}{row.pk}/roll/", {"overlap_seconds": "60"})
    endpoints.roll_secret(row)
    row.refresh_from_db()
    assert row.secrets["secret"] not in text_of(operator.get(first["Location"], follow=True))


def test_nothing_is_chosen_beforehand_and_nothing_twice(operator: Client) -> None:
    page = text_of(operator.get(f"{LIST}add/"))
    assert 'value="grant.*"' in page
    assert not re.search(r'name="events"[^>]*\schecked[\s>=]', page)
    assert 'value="test"' not in page
    operator.post(f"{LIST}add/", {"url": "https://hooks.example.com/", "events": ["grant.*", "grant.expired"]})
    assert WebhookEndpoint.objects.get().events == ["grant.*"]


def test_what_is_wrong_is_said_at_its_field(operator: Client) -> None:
    for data, told in (
        ({"url": "http://hooks.example.com/", "events": ["*"]}, "https"),
        ({"url": "https://hooks.example.com/"}, "at least 1 item"),
    ):
        response = operator.post(f"{LIST}add/", data)
        assert response.status_code == 200
        assert told in text_of(response)
    assert not WebhookEndpoint.objects.exists()
    row = make_endpoint(None)
    assert "Seconds" in text_of(operator.post(f"{LIST}{row.pk}/roll/", {"overlap_seconds": "-1"}))
    assert "Events from" in text_of(operator.post(f"{LIST}{row.pk}/replay/", {"since_0": "x"}))


def test_switching_off_and_on(operator: Client) -> None:
    row = make_endpoint(None, "grant.*")
    operator.post(f"{LIST}{row.pk}/change/", {"url": row.url, "events": row.events})
    row.refresh_from_db()
    assert (row.is_enabled, row.disabled_reason) == (False, "by_hand")
    assert "Send test event" not in text_of(operator.get(f"{LIST}{row.pk}/change/"))
    response = operator.post(f"{LIST}{row.pk}/test/", follow=True)
    assert "switched off" in text_of(response)
    operator.post(f"{LIST}{row.pk}/change/", {"url": row.url, "events": row.events, "is_enabled": "on"})
    row.refresh_from_db()
    assert row.is_enabled


@pytest.mark.django_db(transaction=True)
def test_what_was_sent_is_shown_and_sent_again(operator: Client, receiver: Receiver) -> None:
    row = make_endpoint(receiver, "provider.created")
    receiver.reply = lambda _: Reply(500, body=b"<script>alert(1)</script>")
    assert operator.post(f"{LIST}{row.pk}/test/").status_code == 302
    deliver_due()
    (delivery,) = WebhookDelivery.objects.all()
    page = text_of(operator.get(f"{LIST}{row.pk}/change/"))
    assert "answered 500" in page
    assert delivery.event_id in page
    shown = text_of(operator.get(f"{LIST}{row.pk}/deliveries/{delivery.pk}/"))
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert(1)" not in shown
    assert "&quot;endpointId&quot;" in shown
    receiver.reply = lambda _: Reply()
    assert operator.get(f"{LIST}{row.pk}/deliveries/{delivery.pk}/replay/").status_code == 405
    operator.post(f"{LIST}{row.pk}/deliveries/{delivery.pk}/replay/")
    deliver_due()
    operator.post(f"{LIST}{row.pk}/replay/", {"since_0": "2020-01-01", "since_1": "00:00:00"})
    deliver_due()
    assert len(receiver.received) == 3


def test_a_tenants_people_see_their_own_alone() -> None:
    tenant, other = make_tenant(), make_tenant()
    mine, theirs, shared = make_endpoint(None, tenant=tenant), make_endpoint(None, tenant=other), make_endpoint(None)
    client = signed_in(make_user(tenant=tenant, permissions=RIGHTS))
    assert client.get(LIST).status_code == 200
    assert mine.pk in text_of(client.get(LIST))
    for row in (theirs, shared):
        delivery = make_delivery(row)
        assert row.pk not in text_of(client.get(LIST))
        assert client.get(f"{LIST}{row.pk}/change/").status_code == 302, "as for a row that never was"
        for page in ("test", "roll", "replay", f"deliveries/{delivery.pk}/replay"):
            assert client.post(f"{LIST}{row.pk}/{page}/", {}).status_code == 404
        for pk in (row.pk, mine.pk):
            assert client.get(f"{LIST}{pk}/deliveries/{delivery.pk}/").status_code == 404
    client.post(f"{LIST}add/", {"url": "https://hooks.example.com/new", "events": ["*"], "tenant": other.pk})
    assert WebhookEndpoint.objects.get(url="https://hooks.example.com/new").tenant_id == tenant.pk


def test_whoever_may_only_look_presses_nothing() -> None:
    row = make_endpoint(None)
    delivery = make_delivery(row)
    client = signed_in(make_user(permissions=RIGHTS[:1]))
    page = text_of(client.get(f"{LIST}{row.pk}/change/"))
    assert "Replay" not in page.replace('sr-only">Replay', "")
    assert client.get(f"{LIST}{row.pk}/deliveries/{delivery.pk}/").status_code == 200
    for name in ("test", "roll", "replay", f"deliveries/{delivery.pk}/replay"):
        assert client.post(f"{LIST}{row.pk}/{name}/", {}).status_code == 404
    nobody = signed_in(make_user())
    assert nobody.get(f"{LIST}{row.pk}/deliveries/{delivery.pk}/").status_code == 404


def test_queries_do_not_grow_with_the_rows(operator: Client) -> None:
    row = make_endpoint(None)
    delivery = make_delivery(row)
    pages = [LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/deliveries/{delivery.pk}/"]

    def queries(page: str) -> int:
        with CaptureQueriesContext(database) as captured:
            assert operator.get(page).status_code == 200
        return len(captured)

    for page in pages:
        operator.get(page)  # a process looks its content types up once
    before = [queries(page) for page in pages]
    for _ in range(10):
        make_endpoint(None, tenant=make_tenant())
        make_delivery(row)
        DeliveryAttempt.objects.create(delivery=delivery, sent_at=timezone.now(), url=row.url, duration_ms=1)
    assert [queries(page) for page in pages] == before
