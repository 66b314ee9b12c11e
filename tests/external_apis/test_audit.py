"""Recording: inside the transaction of a change, before the answer of a reading, never a secret."""

from __future__ import annotations

import threading
from copy import copy
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DataError, connection, transaction

from external_apis import audit, request_context
from external_apis.bulk_insert import MANY
from external_apis.models import AuditEvent, OutboxEvent
from tests.factories import make_connection, make_provider, make_tenant


@pytest.mark.django_db(transaction=True)
def test_there_is_no_event_outside_of_a_transaction() -> None:
    with pytest.raises(RuntimeError, match="transaction of its change"):
        audit.record("tenant.updated", make_tenant())
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_it_goes_with_its_change() -> None:
    with transaction.atomic():
        audit.record_about("some.thing", "thing")
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_reading_is_committed_before_anything_leaves() -> None:
    tenant = make_tenant()
    audit.record_reading("credentials.read", tenant, {"password", "username"})
    seen = []

    def look() -> None:
        seen.append(AuditEvent.objects.get().changes)
        connection.close()

    other = threading.Thread(target=look)
    other.start()
    other.join()
    assert seen == [{"read": ["password", "username"]}]
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        audit.record_reading("credentials.read", tenant, ["password"])
    assert AuditEvent.objects.count() == 1


@pytest.mark.django_db
def test_an_event_says_who_from_where_and_in_which_request() -> None:
    with request_context.acting("command:test"), transaction.atomic():
        event = audit.record("tenant.updated", make_tenant("acme"))
        request_id = request_context.current().request_id
    event.refresh_from_db()
    assert (event.actor, event.request_id, event.address) == ("command:test", request_id, None)
    assert event.tenant_id == event.object_id
    with transaction.atomic():
        assert audit.record_about("some.thing", "thing").actor == "system"


@pytest.mark.django_db
def test_changes_are_told_to_the_leaf_and_secrets_as_fingerprints() -> None:
    api = make_provider(api_config={"timeout_ms": 5, "api_key": {"key": "swordfish-1"}}, metadata={"a": {"b": 1}})
    before = copy(api)
    api.api_config = {**api.api_config, "timeout_ms": 6}
    api.metadata = {"a": {"b": 1, "c": [1]}}
    api.secrets = {"api_key.key": "swordfish-2"}
    api.save()
    changes = audit.changed_fields(api, before)
    assert changes.pop("api_config.timeout_ms") == [5, 6]
    assert changes.pop("metadata.a.c") == [None, [1]]
    old, new = changes.pop("secret_fingerprints.api_key.key")
    assert old != new
    assert changes == {}
    assert "swordfish" not in str(audit.changed_fields(api))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), TypeError),
        (Decimal("1.5"), TypeError),
        (b"bytes", TypeError),
        (ValueError("message"), TypeError),
        ("half \ud800 of one", DataError),
        ("nothing \0", DataError),
    ],
)
@pytest.mark.parametrize("number", [1, MANY])
def test_many_events_refuse_what_one_refuses(value: object, error: type[Exception], number: int) -> None:
    events = [audit.build("some.thing", "thing", changes={"a": [None, {"b": value}]}) for _ in range(number)]
    with pytest.raises(error), transaction.atomic():
        audit.store(events)


@pytest.mark.django_db
def test_many_events_are_stored_as_they_are() -> None:
    changes = {"a": [None, {"b": [1, 2.5, True, "ü", "{}"]}]}
    with transaction.atomic():
        audit.store([audit.build("some.thing", "thing", changes=changes) for _ in range(MANY)])
    assert [event.changes for event in AuditEvent.objects.all()] == [changes] * MANY


@pytest.mark.django_db
def test_names_within_somebodys_own_data_are_told_to_nobody() -> None:
    data = {"page_id": "1", "fans": {"Jane Doe": 1}, "imported_from": {"metadata": {"followers": {"Jon Roe": 1}}}}
    connection = make_connection(provider_data=data)
    (event,) = AuditEvent.objects.filter(action="connection.created", object_id=connection.pk)
    assert event.changes["provider_data.imported_from"] == [None, True]
    assert "Jon Roe" not in str(event.changes)
    (told,) = OutboxEvent.objects.filter(type="connection.created", data__id=connection.pk)
    assert "provider_data" in told.data["changed"]
    assert "J" not in "".join(told.data["changed"])


@pytest.mark.django_db
def test_events_outlive_their_tenant() -> None:
    tenant = make_tenant()
    with transaction.atomic():
        audit.record("tenant.deleted", tenant)
    tenant_id = tenant.pk
    tenant.delete()
    assert AuditEvent.objects.get().tenant_id == tenant_id
