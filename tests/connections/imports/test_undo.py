"""Taking a run back: what nobody has used or changed goes, the rest stays with a reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from connections.imports import runs
from connections.imports.runs import Imported
from connections.imports.undo import Undone, undo
from connections.models import (
    ConnectionStatus,
    ExternalApiConnection,
    ExternalApiCredential,
    Grant,
    ImportedRow,
    ImportKind,
    ImportRun,
    ImportState,
)
from connections.services import delete_connection, update_connection
from external_apis import audit
from external_apis.models import AuditEvent, ExternalApi
from external_apis.providers import update_external_api
from external_apis.rotation import rotate
from tests.factories import make_connection, make_provider
from tests.inbound import make_webhook_event

pytestmark = pytest.mark.django_db


def imported(*rows: ExternalApi | ExternalApiConnection, outcome: str = "created") -> ImportRun:
    run = runs.begin(ImportKind.SOCIAL_PLATFORMS, "source")
    made = [Imported(row.pk, row, getattr(row, "credential", None), outcome=outcome) for row in rows]
    with transaction.atomic():
        runs.record(run, made, {outcome: len(made)})
    runs.finish(run)
    return run


def reasons(undone: Undone) -> dict[str, str]:
    return {one.object_id: one.reason for one in undone.left}


def test_what_nobody_has_touched_goes_with_its_provider_and_credential() -> None:
    api = make_provider()
    row = make_connection(api)
    run = imported(api, row)
    undone = undo(run)
    assert (undone.removed, undone.left) == (2, [])
    for model in (ExternalApi, ExternalApiConnection, ExternalApiCredential, ImportedRow, Grant):
        assert not model._default_manager.exists()
    assert ImportRun.objects.get().state == ImportState.UNDONE
    deleted = AuditEvent.objects.filter(action__endswith=".deleted").values_list("action", "object_id")
    assert set(deleted) == {("provider.deleted", api.pk), ("connection.deleted", row.pk)}
    assert runs.begin(ImportKind.SOCIAL_PLATFORMS, "source").pk != run.pk


def used(row: ExternalApiConnection) -> None:
    ExternalApiConnection.objects.filter(pk=row.pk).update(last_used_at=timezone.now(), calls_count=1)


def renamed(row: ExternalApiConnection) -> None:
    update_connection(row, {"connection_name": "Another name"})


def with_another_token(row: ExternalApiConnection) -> None:
    update_connection(row, {"credentials": {"access_token": "another one"}})


def revoked(row: ExternalApiConnection) -> None:
    update_connection(row, {"status": ConnectionStatus.REVOKED})


def read(row: ExternalApiConnection) -> None:
    with transaction.atomic():
        audit.record("credentials.read", row)


def renewed_in_vain(row: ExternalApiConnection) -> None:
    Grant.objects.update_or_create(connection=row, defaults={"failures": 1})


def being_renewed(row: ExternalApiConnection) -> None:
    Grant.objects.update_or_create(connection=row, defaults={"leased_until": timezone.now() + timedelta(minutes=1)})


def told_of(row: ExternalApiConnection) -> None:
    event = make_webhook_event()
    event.connection = row
    event.save()


@pytest.mark.parametrize(
    ("touch", "reason"),
    [
        (used, "was used since"),
        (renamed, "was changed since"),
        (with_another_token, "was changed since"),
        (revoked, "was changed since"),
        (delete_connection, "was deleted here since"),
        (read, "its secrets were read since"),
        (renewed_in_vain, "its token was to be renewed since"),
        (being_renewed, "its token is being renewed"),
        (told_of, "a webhook event refers to it"),
    ],
)
def test_what_was_used_or_changed_stays_with_a_reason(
    touch: Callable[[ExternalApiConnection], None], reason: str
) -> None:
    row, untouched = make_connection(), make_connection()
    run = imported(row, untouched)
    touch(ExternalApiConnection.objects.select_related("credential").get(pk=row.pk))
    undone = undo(run)
    assert reasons(undone) == {row.pk: reason}
    assert list(ExternalApiConnection.objects.values_list("pk", flat=True).exclude(pk=row.pk)) == []
    # What is deleted here is nothing that another run would have to know of.
    remembered = [] if touch is delete_connection else [row.pk]
    assert list(ImportedRow.objects.values_list("object_id", flat=True)) == remembered


def test_what_ended_by_itself_or_was_resealed_is_no_change() -> None:
    row = make_connection()
    run = imported(row)
    ExternalApiConnection.objects.filter(pk=row.pk).update(status=ConnectionStatus.EXPIRED, error_message="has ended")
    list(rotate())
    assert undo(run).removed == 1


def test_a_provider_stays_while_anything_is_connected_to_it() -> None:
    api, other = make_provider(), make_provider()
    run = imported(api, other)
    make_connection(api)
    undone = undo(run)
    assert reasons(undone) == {api.pk: "a connection refers to it"}
    update_external_api(api, {"name": "Another"})
    assert reasons(undo(run)) == {api.pk: "was changed since"}


def test_what_was_only_updated_stays() -> None:
    run = imported(api := make_provider(), outcome="updated")
    assert reasons(undo(run)) == {api.pk: "was there before the import, and keeps what the import changed"}


def test_what_is_gone_already_is_forgotten() -> None:
    row = make_connection()
    run = imported(row)
    ExternalApiConnection.objects.filter(pk=row.pk).delete()
    assert undo(run).left == []
    assert not ImportedRow.objects.exists()


def test_an_undo_that_was_stopped_goes_on() -> None:
    run = imported(make_connection())
    assert undo(run, stop=True).removed == 0
    assert undo(run).removed == 1


def test_many_rows_of_a_run_cost_queries_by_the_batch() -> None:
    api = make_provider()
    run = imported(api, *(make_connection(api) for _ in range(12)))
    told = []
    assert undo(run, on_batch=lambda *counts: told.append(counts)).removed == 13
    assert told == [(13, 0)]
