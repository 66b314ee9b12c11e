"""From a change to the deliveries of those who want to know."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection as database
from django.db import transaction

from connections.editing import delete_connection
from connections.models import WebhookDelivery
from connections.oauth import events
from connections.webhooks.outbound.fan_out import fan_out
from external_apis import audit, keys, outbox
from external_apis.errors import InvalidInput
from external_apis.event_types import EVENT_TYPES, check_filters, matching_filters
from external_apis.models import OutboxEvent
from tests.factories import make_connection, make_key, make_provider, make_tenant
from tests.webhook_receiver import Receiver, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


def pairs() -> set[tuple[str, str]]:
    return set(WebhookDelivery.objects.values_list("endpoint_id", "type"))


def write(event_type: str, **fields: Any) -> OutboxEvent:
    with transaction.atomic():
        event = outbox.build(event_type, {"id": "x"}, tenant_id=fields.get("tenant_id"))
        outbox.write([event])
    return event


def test_changes_are_told_of_without_their_values(receiver: Receiver) -> None:
    row = make_connection(make_provider(tenant=(tenant := make_tenant())), tenant=tenant)
    events.record(row, "expired", cause="schedule", outcome="failed", message="a message")
    delete_connection(row)
    told = OutboxEvent.objects.filter(data__id=row.pk)
    assert list(told.values_list("type", "tenant_id")) == [
        ("connection.created", tenant.pk),
        ("connection.deleted", tenant.pk),
    ]
    created = told[0].data
    assert set(created) == {"id", "objectType", "tenantId", "changed", "requestId"}
    assert "connection_name" in created["changed"]
    assert row.connection_name not in str(created)
    (grant,) = OutboxEvent.objects.filter(type="grant.expired")
    assert grant.data["connectionId"] == row.pk
    assert "a message" not in str(grant.data)
    key = make_key().key
    keys.revoke(key)
    assert OutboxEvent.objects.filter(type="api_key.revoked", data__id=key.pk).exists()


def test_what_is_rolled_back_is_told_to_nobody() -> None:
    row = make_connection()
    OutboxEvent.objects.all().delete()
    with transaction.atomic():
        audit.record("connection.updated", row)
        transaction.set_rollback(True)
    assert not OutboxEvent.objects.exists()
    with pytest.raises(RuntimeError):
        outbox.write([outbox.build("connection.updated", {}, tenant_id=None)])


def test_filters_choose(receiver: Receiver) -> None:
    everything = make_endpoint(receiver)
    group = make_endpoint(receiver, "connection.*", "connection.created")
    one = make_endpoint(receiver, "connection.deleted")
    off = make_endpoint(receiver)
    type(off).objects.filter(pk=off.pk).update(is_enabled=False)
    for event_type in ("connection.created", "connection.deleted", "provider.created"):
        write(event_type)
    OutboxEvent.objects.exclude(data__id="x").delete()
    assert fan_out() == 3
    assert pairs() == {
        (everything.pk, "connection.created"), (everything.pk, "connection.deleted"),
        (everything.pk, "provider.created"), (group.pk, "connection.created"), (group.pk, "connection.deleted"),
        (one.pk, "connection.deleted"),
    }  # fmt: skip
    assert WebhookDelivery.objects.count() == 6, "two filters that fit are one delivery"
    assert fan_out() == 0


def test_a_tenant_is_told_of_its_own_alone(receiver: Receiver) -> None:
    mine, theirs = make_tenant(), make_tenant()
    own, others, all_ = (
        make_endpoint(receiver, tenant=mine),
        make_endpoint(receiver, tenant=theirs),
        make_endpoint(receiver),
    )
    OutboxEvent.objects.all().delete()
    write("connection.created", tenant_id=mine.pk)
    write("provider.created")
    fan_out()
    assert pairs() == {(own.pk, "connection.created"), (all_.pk, "connection.created"), (all_.pk, "provider.created")}
    assert not WebhookDelivery.objects.filter(endpoint=others).exists()
    assert WebhookDelivery.objects.get(endpoint=own).tenant_id == mine.pk


def test_what_nobody_wants_is_not_kept(receiver: Receiver) -> None:
    make_endpoint(receiver, "grant.*")
    OutboxEvent.objects.all().delete()
    unwanted, wanted = write("connection.created"), write("grant.expired")
    fan_out()
    assert list(OutboxEvent.objects.values_list("pk", flat=True)) == [wanted.pk] != [unwanted.pk]


def test_several_at_once_make_each_once(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver)
    OutboxEvent.objects.all().delete()
    OutboxEvent.objects.bulk_create(OutboxEvent(type="grant.expired", data={}) for _ in range(600))

    def work(_: int) -> int:
        try:
            return sum(iter(lambda: fan_out(50), 0))
        finally:
            database.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 600
    assert WebhookDelivery.objects.filter(endpoint=endpoint).count() == 600
    ids = sorted(WebhookDelivery.objects.values_list("pk", "event_id"))
    assert [pk[4:13] for pk, _ in ids] == [event_id[4:13] for _, event_id in ids], "in the order of their events"


def test_the_table_of_types_is_closed() -> None:
    assert check_filters(["grant.*", "test", "grant.expired", "calls.failing"]) == ["calls.failing", "grant.*", "test"]
    assert check_filters(["grant.*", "*", "test"]) == ["*"]
    for wrong in (["nothing.*"], ["connection"], ["*.created"], [""], [], ["connection.created "], ["grant.\0"]):
        with pytest.raises(InvalidInput):
            check_filters(wrong)
    assert matching_filters("test") == ()
    assert {name.partition(".")[0] for name in EVENT_TYPES} == {
        "grant", "connection", "api_key", "provider", "calls", "webhook_endpoint", "test",
    }  # fmt: skip


def test_an_endpoint_that_is_deleted_meanwhile(receiver: Receiver, make_receiver: Callable[[], Receiver]) -> None:
    """The fan-out waits for the deletion and goes on with the others."""
    going, staying = make_endpoint(receiver), make_endpoint(receiver)
    OutboxEvent.objects.all().delete()
    write("grant.expired")

    def work() -> int:
        try:
            return fan_out()
        finally:
            database.close()

    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            type(going).objects.select_for_update().get(pk=going.pk)
            later = pool.submit(work)
            type(going).objects.filter(pk=going.pk).delete()
        assert later.result(10) == 1
    assert pairs() == {(staying.pk, "grant.expired")}
