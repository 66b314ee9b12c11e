"""``/api/external/webhook-endpoints``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook

from connections.models import DeliveryAttempt, WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound import endpoints, pruning
from connections.webhooks.outbound.delivery import deliver_due
from external_apis.event_types import TEST
from external_apis.ids import first_id
from external_apis.models import AuditEvent, OutboxEvent
from tests.envelope import EXTERNAL, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant
from tests.rest import RestClient, with_key
from tests.webhook_receiver import Receiver, Reply, make_delivery, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)

HOOKS = f"{EXTERNAL}/webhook-endpoints"


def create(client: RestClient, **body: Any) -> Any:
    return client.send("post", HOOKS, {"url": "https://hooks.example.com/in", **body})


def test_the_life_of_an_endpoint(receiver: Receiver) -> None:
    client = with_key()
    made = data_of(create(client, url=receiver.url, events=["provider.created"], description="Ours"), 201)
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    url = f"{HOOKS}/{made['id']}"
    assert data_of(client.get(url)) == made
    assert (made["isEnabled"], made["failingSince"], made["tenantId"]) == (True, None, None)
    assert secret not in client.get(HOOKS).content.decode()

    rolled = data_of(client.send("post", f"{url}/roll-secret", {"overlapSeconds": 60}))
    sent = data_of(client.send("post", f"{url}/test"), 201)
    assert (sent["type"], sent["status"], sent["attempts"], sent["lastStatus"]) == (TEST, "pending", 0, None)
    receiver.reply = lambda _: Reply(500, body=b"no")
    deliver_due()
    for name in (secret, rolled["secret"]):
        Webhook(name).verify(receiver.received[0].body.encode(), receiver.received[0].headers)
    (listed,) = data_of(client.get(f"{url}/deliveries"))
    shown = data_of(client.get(f"{url}/deliveries/{sent['id']}"))
    assert shown.pop("body") == receiver.received[0].body
    (attempt,) = shown.pop("log")
    assert shown == listed
    assert (shown["status"], shown["attempts"], shown["lastStatus"]) == ("pending", 1, 500)
    assert (attempt["status"], attempt["error"], attempt["answer"]) == (500, "answered 500", "no")
    assert shown["messageId"] == receiver.received[0].message_id
    assert data_of(client.get(f"{url}/deliveries?status=delivered")) == []

    receiver.reply = lambda _: Reply()
    assert data_of(client.send("post", f"{url}/deliveries/{sent['id']}/replay"))["attempts"] == 0
    deliver_due()
    since = (timezone.now() - timedelta(hours=1)).isoformat()
    assert data_of(client.send("post", f"{url}/replay", {"since": since})) == {"deliveries": 1}
    assert data_of(client.send("post", f"{url}/replay", {"since": since, "onlyFailed": True})) == {"deliveries": 1}
    deliver_due()
    assert data_of(client.send("post", f"{url}/replay", {"since": since, "onlyFailed": True})) == {"deliveries": 0}
    assert len(receiver.received) == 3
    assert len(data_of(client.get(f"{url}/deliveries/{sent['id']}"))["log"]) == 3

    off = data_of(client.send("patch", url, {"isEnabled": False, "events": ["grant.*", "calls.failing"]}))
    assert (off["isEnabled"], off["disabledReason"]) == (False, "by_hand")
    assert off["events"] == ["calls.failing", "grant.*"]
    assert failure_of(client.send("post", f"{url}/test")) == (409, "CONFLICT")
    on = data_of(client.send("patch", url, {"isEnabled": True}))
    assert (on["disabledReason"], on["disabledAt"]) == (None, None)
    assert data_of(client.delete(url))["deleted"] is True
    assert failure_of(client.get(url)) == (404, "NOT_FOUND")
    pruning.prune()
    assert not WebhookDelivery.objects.exists()
    actions = AuditEvent.objects.filter(object_id=made["id"]).values_list("action", flat=True).order_by("pk")
    assert list(actions) == [
        f"webhook_endpoint.{verb}"
        for verb in ("created", "secret_rolled", "tested", *["replayed"] * 4, "updated", "updated", "deleted")
    ]
    assert secret not in str(list(AuditEvent.objects.values()))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/in", "ftp://hooks.example.com", "hooks.example.com", "", "https://", "https:///in",
        "https://user:secret@hooks.example.com/", "https://hooks.example.com/in?token=secret", "https://hooks.example.com/#a",
        "https://hooks.example.com/a b", "https://hooks.example.com/\r\nX: y", "https://hooks.example.com/\0",
        "https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/", "https://hooks.example.com/../x",
        "https://hooks.example.com:0/", "https://hooks.example.com:99999/", "https://[fe80::1%25eth0]/",
        f"https://{'a' * 300}/",
        "https://hooks.example.com/caf\xe9", "https://hooks.example.com/\u2713",
        "https://hooks.example.com/" + "a" * 2000, "//hooks.example.com", "javascript:alert(1)",
    ],
)  # fmt: skip
@pytest.mark.django_db(transaction=False)
def test_urls_that_are_refused(url: str) -> None:
    response = create(with_key(), url=url)
    assert failure_of(response)[0] == 400
    assert named_by(response) == ["url"]
    assert "secret" not in response.json()["error"]["message"]


@pytest.mark.django_db(transaction=False)
def test_other_input_that_is_refused() -> None:
    client, made = with_key(), make_endpoint(None)
    for body, name in (
        ({"events": []}, "events"), ({"events": ["nothing"]}, "events"), ({"events": "grant.*"}, "events"),
        ({"events": ["grant.*"] * 101}, "events.100"), ({"description": "a" * 501}, "description"),
        ({"secret": "whsec_"}, "secret"), ({"tenantId": "a b"}, "tenantId"), ({"isEnabled": True}, "isEnabled"),
    ):  # fmt: skip
        response = create(client, **body)
        assert failure_of(response) == (400, "VALIDATION_ERROR"), body
        assert named_by(response)[0].startswith(name.partition(".")[0])
    assert failure_of(create(client, tenantId="ten_unknown")) == (404, "NOT_FOUND")
    url = f"{HOOKS}/{made.pk}"
    refused: tuple[tuple[str, Any], ...] = (
        ("roll-secret", {"overlapSeconds": -1}), ("roll-secret", {"overlapSeconds": 10**9}),
        ("roll-secret", {"overlapSeconds": "5"}), ("replay", {}), ("replay", {"since": "yesterday"}),
        ("replay", {"since": "2026-01-01T00:00:00"}), ("replay", {"since": "99999-01-01T00:00:00Z"}),
        ("test", {"a": 1}),
    )  # fmt: skip
    for path, sent in refused:
        assert failure_of(client.send("post", f"{url}/{path}", sent))[0] == 400, (path, sent)


@pytest.mark.django_db(transaction=False)
def test_a_tenant_sees_and_makes_its_own() -> None:
    tenant, other = make_tenant(), make_tenant()
    client = client_of(make_key(tenant=tenant, scopes=["webhooks:read", "webhooks:write"]).token)
    made = data_of(create(client), 201)
    assert made["tenantId"] == tenant.pk
    foreign, shared = make_endpoint(None, tenant=other), make_endpoint(None)
    assert [item["id"] for item in data_of(client.get(HOOKS))] == [made["id"]]
    assert data_of(client.get(f"{HOOKS}?tenantId={other.pk}")) == []
    for row in (foreign, shared):
        delivery = make_delivery(row)
        for path in ("", "/deliveries", f"/deliveries/{delivery.pk}"):
            assert failure_of(client.get(f"{HOOKS}/{row.pk}{path}"))[0] == 404
        assert failure_of(client.get(f"{HOOKS}/{made['id']}/deliveries/{delivery.pk}"))[0] == 404
        for path in ("roll-secret", "test", f"deliveries/{delivery.pk}/replay"):
            assert failure_of(client.send("post", f"{HOOKS}/{row.pk}/{path}"))[0] == 404
        assert failure_of(client.delete(f"{HOOKS}/{row.pk}"))[0] == 404
    assert failure_of(create(client, tenantId=other.pk))[0] == 404
    assert WebhookEndpoint.objects.count() == 3


@pytest.mark.django_db(transaction=False)
def test_scopes_and_test_keys() -> None:
    row = make_endpoint(None)
    reader = client_of(make_key(scopes=["webhooks:read"]).token)
    assert failure_of(create(reader)) == (403, "FORBIDDEN")
    assert data_of(reader.get(f"{HOOKS}/{row.pk}"))["id"] == row.pk
    writer = client_of(make_key(scopes=["webhooks:write"]).token)
    assert failure_of(writer.get(HOOKS)) == (403, "FORBIDDEN")
    test = client_of(make_key(mode="test").token)
    assert data_of(test.get(HOOKS)) == []
    assert failure_of(create(test)) == (403, "FORBIDDEN")
    assert failure_of(test.delete(f"{HOOKS}/{row.pk}"))[0] == 404


@pytest.mark.django_db(transaction=False)
def test_filters_of_the_list() -> None:
    first, second = make_endpoint(None, description="About billing"), make_endpoint(None)
    endpoints.update(second, {"is_enabled": False})
    client = with_key()
    for query, found in (
        ("isEnabled=true", first),
        ("isEnabled=false", second),
        ("search=BILLING", first),
    ):
        assert [item["id"] for item in data_of(client.get(f"{HOOKS}?{query}"))] == [found.pk]


@pytest.mark.django_db(transaction=False)
def test_queries_do_not_grow_with_the_rows() -> None:
    client = with_key()

    def queries(url: str) -> int:
        with CaptureQueriesContext(database) as captured:
            data_of(client.get(url))
        return len(captured)

    row = make_endpoint(None)
    delivery = make_delivery(row)
    urls = [HOOKS, f"{HOOKS}/{row.pk}/deliveries", f"{HOOKS}/{row.pk}/deliveries/{delivery.pk}"]
    before = [queries(url) for url in urls]
    for _ in range(10):
        make_endpoint(None)
        make_delivery(row)
        DeliveryAttempt.objects.create(delivery=delivery, sent_at=timezone.now(), url=row.url, duration_ms=1)
    assert [queries(url) for url in urls] == before
    assert max(before) <= 4


@pytest.mark.django_db(transaction=False)
def test_old_deliveries_are_forgotten(settings: Any) -> None:
    settings.WEBHOOK_DELIVERIES_KEPT_DAYS = 30
    row = make_endpoint(None)
    old, new = make_delivery(row), make_delivery(row)
    DeliveryAttempt.objects.create(delivery=old, sent_at=timezone.now(), url=row.url, duration_ms=1)
    for days, delivery in ((31, old), (29, new)):
        at = timezone.now() - timedelta(days=days)
        event_id, delivery_id = delivery.event_id, delivery.pk
        OutboxEvent.objects.create(pk=first_id("msg", at), type=TEST, data={}, fanned_out_at=at)
        WebhookDelivery.objects.filter(pk=delivery_id).update(event=first_id("msg", at))
        OutboxEvent.objects.filter(pk=event_id).delete()
        DeliveryAttempt.objects.filter(delivery=delivery_id).delete()
        WebhookDelivery.objects.filter(pk=delivery_id).update(id=first_id("whd", at), due_at=None, status="failed")
    DeliveryAttempt.objects.create(
        delivery=WebhookDelivery.objects.order_by("pk")[0], sent_at=timezone.now(), url=row.url, duration_ms=1
    )
    waiting = OutboxEvent.objects.create(pk=first_id("msg", timezone.now() - timedelta(days=40)), type=TEST, data={})
    assert pruning.prune() == 2
    assert [found.pk[:9] for found in WebhookDelivery.objects.all()] == [
        first_id("whd", timezone.now() - timedelta(days=29))[:9]
    ]
    assert not DeliveryAttempt.objects.exists()
    assert OutboxEvent.objects.filter(pk=waiting.pk).exists(), "what was never fanned out is not lost"


@pytest.mark.django_db(transaction=False)
def test_what_waits_is_kept_longer_and_not_for_ever_for_who_is_off(settings: Any) -> None:
    settings.WEBHOOK_DELIVERIES_KEPT_DAYS = 30
    tenant = make_tenant()
    on, off, of_tenant = make_endpoint(None), make_endpoint(None), make_endpoint(None, tenant=tenant)
    kept = {}
    for row in (on, off, of_tenant):
        for days in (31, 59, 61):
            at = timezone.now() - timedelta(days=days)
            delivery = make_delivery(row)
            WebhookDelivery.objects.filter(pk=delivery.pk).update(id=f"{first_id('whd', at)[:14]}{row.pk[-16:]}")
            kept[row.pk, days] = f"{first_id('whd', at)[:14]}{row.pk[-16:]}"
    endpoints.update(off, {"is_enabled": False})
    tenant.is_active = False
    tenant.save()
    assert pruning.prune() == 2
    gone = {kept.pop((off.pk, 61)), kept.pop((of_tenant.pk, 61))}
    assert set(WebhookDelivery.objects.values_list("pk", flat=True)) == set(kept.values())
    assert len(gone) == 2
