"""The database or a key is away for a moment: the run waits, and no step counts as one that failed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import ExternalApiCredential, RunState, WorkflowRun, WorkflowStep
from connections.workflows import Context, RunStatus, absences, cancel, start, status_of, step, take_over, workflow
from connections.workflows.pruning import prune
from external_apis import crypto, request_context
from external_apis.errors import StepFailed
from tests.factories import make_connection
from tests.workflow_runs import finish, stored, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absences, "_PAUSE_SECONDS", 0.01)


@pytest.fixture
def breaks() -> Iterator[bool]:
    """One break of the database, for whoever asks for it."""
    return iter([True])


def lose_connection() -> None:
    """Have the database end this thread's session, as at its restart."""
    with connection.cursor() as cursor, pytest.raises(Exception, match=r"terminating|closed"):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def test_a_step_that_found_no_database_has_done_nothing(breaks: Iterator[bool]) -> None:
    """Not even one that is never repeated and has no retries fails of it."""
    reference = make_connection().pk
    done = []

    @step(name="once", is_repeatable=False, retries=0)
    def once(context: Context) -> str:
        if next(breaks, False):
            lose_connection()
        client = context.get_api_client(reference)
        done.append("sent")
        return client.target.connection_id

    workflow("careful")(lambda context, given: once(context))
    run = start("careful")
    work()
    waiting = stored(run)
    assert (status_of(waiting), waiting.tries, waiting.is_in_doubt) == (RunStatus.WAITING, 0, False)
    assert "OperationalError" in waiting.error_message or "InterfaceError" in waiting.error_message
    assert waiting.due_at is not None
    assert waiting.due_at > timezone.now()
    assert (finish(run).state, done) == (RunState.SUCCEEDED, ["sent"])


def test_a_step_that_had_a_client_before_may_have_happened(breaks: Iterator[bool]) -> None:
    reference = make_connection().pk

    @step(name="once", is_repeatable=False)
    def once(context: Context) -> None:
        context.get_api_client(reference)
        if next(breaks, False):
            lose_connection()
        context.get_api_client(reference)

    workflow("careful")(lambda context, given: once(context))
    run = finish(start("careful"))
    assert (run.state, run.error_code) == (RunState.FAILED, "STEP_IN_DOUBT"), "nothing undoes what may have happened"


def test_a_result_is_stored_once_the_database_is_back(breaks: Iterator[bool]) -> None:
    @step(name="once", is_repeatable=False)
    def once(context: Context) -> str:
        if next(breaks, False):
            lose_connection()
        return "sent"

    workflow("careful")(lambda context, given: once(context))
    run = start("careful")
    work()
    assert (stored(run).state, stored(run).steps.count()) == (RunState.SUCCEEDED, 1)


def test_a_body_that_finds_no_database_is_run_again(breaks: Iterator[bool]) -> None:
    @step(name="one", compensate=lambda context, given, result: None)
    def one(context: Context) -> int:
        return 1

    def body(context: Context, given: Any) -> int:
        found: int = one(context)
        if next(breaks, False):
            lose_connection()
            WorkflowRun.objects.count()
        return found

    workflow("reads")(body)
    run = start("reads")
    work()
    assert status_of(stored(run)) == RunStatus.WAITING
    assert finish(run).state == RunState.SUCCEEDED


STRANGER = bytes(crypto.Keyring({"gone": b"k" * 32}).seal(b"{}", "anywhere"))


def swap(row: Any, column: str, sealed: bytes) -> bytes:
    """Put a sealed value into a row, past everything; return the one that was there."""
    table, key = row._meta.db_table, row._meta.pk.column
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE {key} = %s", [row.pk])
        ((before,),) = cursor.fetchall()
        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE {key} = %s", [sealed, row.pk])
    return bytes(before)


@pytest.mark.parametrize("place", ["input", "result", "compensation", "credentials"])
def test_a_key_that_is_not_held_at_the_moment_is_waited_for(place: str) -> None:
    reference = make_connection().pk
    undone: list[int] = []
    before: list[tuple[Any, str, bytes]] = []

    def lose_key(row: Any, column: str) -> None:
        before.append((row, column, swap(row, column, STRANGER)))

    @step(name="one", compensate=lambda context, given, result: undone.append(result))
    def one(context: Context) -> int:
        return 1

    @step(name="two")
    def two(context: Context) -> None:
        context.get_api_client(reference)
        if before or place in ("input", "credentials"):
            return
        lose_key(WorkflowStep.objects.get(run_id=context.run_id, position=1), "contents")
        raise StepFailed("No.") if place == "compensation" else ConnectionError

    workflow("order")(lambda context, given: [one(context), two(context)])
    run = start("order")
    if place == "input":
        lose_key(run, "input")
    elif place == "credentials":
        lose_key(ExternalApiCredential.objects.get(connection_id=reference), "secrets")
    for _ in range(6):
        WorkflowRun.objects.update(due_at=timezone.now())
        work()
    waiting = stored(run)
    assert waiting.state == (RunState.REVERTING if place == "compensation" else RunState.OPEN)
    assert waiting.error_code == ("STEP_FAILED" if place == "compensation" else "UNKNOWN_ENCRYPTION_KEY")
    assert waiting.due_at is not None
    assert waiting.due_at > timezone.now()
    swap(*before[0])
    ended = finish(run)
    assert ended.state == (RunState.REVERTED if place == "compensation" else RunState.SUCCEEDED)
    assert undone == ([1] if place == "compensation" else [])


def test_a_run_whose_input_does_not_open_is_cancelled_at_once() -> None:
    workflow("order")(lambda context, given: None)
    run = start("order")
    swap(run, "input", STRANGER)
    work()
    assert status_of(stored(run)) == RunStatus.WAITING
    cancel(run)
    work()
    assert stored(run).state == RunState.CANCELLED


def test_nothing_that_is_handed_over_is_lost_with_a_key_that_is_away() -> None:
    """It is wiped another day. What is damaged is taken by nobody."""

    @step(name="leave")
    def leave(context: Context) -> None:
        context.hand_over(token="swordfish")

    workflow("leave")(lambda context, given: leave(context))
    with request_context.acting("user:alice"):
        away, damaged, *others = (start("leave") for _ in range(12))
    work()
    before = swap(away.steps.get(), "contents", STRANGER)
    swap(damaged.steps.get(), "contents", before)  # another row's
    WorkflowRun.objects.update(finished_at=timezone.now() - timedelta(days=2))
    with CaptureQueriesContext(connection) as queries:
        prune()
    assert len(queries) < 15
    assert {run.pk for run in WorkflowRun.objects.filter(hands_over=True)} == {away.pk}
    assert all("once" not in run.steps.get().contents for run in others)
    swap(away.steps.get(), "contents", before)
    with request_context.acting("user:alice"):
        assert take_over(stored(away)) == {"token": "swordfish"}
