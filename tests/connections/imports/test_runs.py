"""Runs of imports: begun, broken off, gone on with by somebody else, and what each batch made."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from connections.imports import runs
from connections.imports.runs import Imported
from connections.models import ExternalApiConnection, ImportedRow, ImportKind, ImportRun, ImportState
from external_apis.errors import Conflict, NotFound
from external_apis.models import AuditEvent
from tests.factories import make_connection, make_provider, make_tenant

pytestmark = pytest.mark.django_db
KIND = ImportKind.SOCIAL_PLATFORMS


def imported(name: str, **fields: str) -> Imported:
    row = make_connection(connection_name=name)
    return Imported(name, row, row.credential, **fields)


def test_an_unfinished_run_is_gone_on_with_where_its_last_batch_stands() -> None:
    run = runs.begin(KIND, "the old database")
    with transaction.atomic():
        runs.record(run, [imported("a")], {"created": 1}, {"after": "a"})
    with transaction.atomic():
        runs.record(run, [imported("b")], {"created": 1, "failed": 2}, {"after": "b"})
    again = runs.begin(KIND, "the old database")
    assert (again.pk, again.state) == (run.pk, ImportState.RUNNING)
    assert again.position == {"after": "b"}
    assert again.counts == {"created": 2, "failed": 2}
    runs.finish(again)
    assert runs.begin(KIND, "the old database").pk != run.pk
    assert [event.action for event in AuditEvent.objects.filter(object_id=run.pk).order_by("id")] == [
        "import.started",
        "import.resumed",
        "import.finished",
    ]


def test_sources_kinds_and_tenants_have_runs_of_their_own() -> None:
    begun = {
        runs.begin(KIND, "one").pk,
        runs.begin(KIND, "two").pk,
        runs.begin(ImportKind.ENV, "one").pk,
        runs.begin(KIND, "one", tenant=make_tenant()).pk,
    }
    assert len(begun) == 4
    run = runs.begin(KIND, "postgresql://db.example.com/a", identity="system 7")
    assert runs.begin(KIND, "postgresql://10.0.0.1/a", identity="system 7").pk == run.pk


def test_whoever_was_overtaken_stores_nothing_more() -> None:
    first = runs.begin(KIND, "source")
    second = runs.begin(KIND, "source")
    with pytest.raises(Conflict), transaction.atomic():
        runs.record(first, [imported("a")], {"created": 1})
    assert not ImportedRow.objects.exists()
    with pytest.raises(Conflict):
        runs.finish(first)
    with transaction.atomic():
        runs.record(second, [imported("b")], {"created": 1})
    assert ImportedRow.objects.get().source_key == "b"


def test_a_batch_that_was_rolled_back_does_not_count() -> None:
    run = runs.begin(KIND, "source")
    with transaction.atomic():
        runs.record(run, [imported("a")], {"created": 5}, {"after": "a"})
        transaction.set_rollback(True)
    with transaction.atomic():
        runs.record(run, [imported("b")], {"created": 1})
    stored = ImportRun.objects.get()
    assert stored.counts == run.counts == {"created": 1}
    assert stored.position == {}


def test_nothing_is_made_twice_of_one_thing_in_the_source() -> None:
    run = runs.begin(KIND, "source")
    with transaction.atomic():
        runs.record(run, [imported("a")], {"created": 1})
    with pytest.raises(IntegrityError), transaction.atomic():
        runs.record(run, [imported("a")], {"created": 1})
    with transaction.atomic():
        runs.record(run, [imported("a", outcome="updated")], {"updated": 1})


def test_a_batch_belongs_into_a_transaction(transactional_db: None) -> None:
    run = runs.begin(KIND, "source")
    with pytest.raises(RuntimeError):
        runs.record(run, [], {})


def test_what_was_imported_before_is_known_by_the_last_of_it() -> None:
    run = runs.begin(KIND, "source")
    with transaction.atomic():
        runs.record(run, [imported("a", source_digest="1"), imported("b")], {"created": 2})
    runs.finish(run)
    other = runs.begin(KIND, "source")
    with transaction.atomic():
        runs.record(other, [imported("a", outcome="updated", source_digest="2")], {"updated": 1})
    found = runs.known(other, ["a", "b", "c"])
    assert {key[0]: row.source_digest for key, row in found.items()} == {"a": "2", "b": ""}
    assert runs.known(runs.begin(KIND, "another source"), ["a"]) == {}


def test_a_batch_costs_the_same_few_queries_however_many_rows() -> None:
    run, api = runs.begin(KIND, "source"), make_provider()
    rows = [make_connection(api, connection_name=f"Row {number}") for number in range(30)]
    loaded = list(ExternalApiConnection.objects.select_related("credential").filter(pk__in=[row.pk for row in rows]))
    with (
        CaptureQueriesContext(
            connection,
        ) as queries,
        transaction.atomic(),
    ):
        runs.record(run, [Imported(row.pk, row, row.credential) for row in loaded], {"created": 30})
    assert len(queries) == 5  # a savepoint and its end, a lock, an update, an insert


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("it says: swordfish"), Conflict("is taken")])
def test_a_run_ends_as_its_block_does(error: BaseException) -> None:
    run = runs.begin(KIND, "source")
    with pytest.raises(type(error)), runs.underway(run):
        raise error
    stored = ImportRun.objects.get()
    assert stored.state == (ImportState.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ImportState.FAILED)
    assert "swordfish" not in stored.error_message
    with runs.underway(runs.begin(KIND, "source"), stop=True):
        pass
    assert ImportRun.objects.get().state == ImportState.INTERRUPTED
    with runs.underway(runs.begin(KIND, "source")):
        pass
    assert ImportRun.objects.get().state == ImportState.FINISHED


@pytest.mark.parametrize("run_id", ["imp_none", "", "a\0b", "\ud800"])
def test_what_is_no_run_is_not_found(run_id: str) -> None:
    with pytest.raises(NotFound):
        runs.find(run_id, KIND)


def test_a_run_of_another_kind_is_not_found() -> None:
    run = runs.begin(KIND, "source")
    assert runs.find(run.pk, KIND) == run
    with pytest.raises(NotFound):
        runs.find(run.pk, ImportKind.ENV)
