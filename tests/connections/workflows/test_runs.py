"""Start, wait, cancel, retry and take over; of one's own tenant and mode alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import DatabaseError, connection, transaction
from django.dispatch import Signal
from django.utils import timezone
from pydantic import BaseModel, Field

from connections import workflows
from connections.due_work import claim
from connections.models import RunState, UndoState, WorkflowRun, WorkflowStep
from connections.workflows import Context, RunStatus, journal, running, start, status_of, step, workflow
from connections.workflows.definitions import Step
from connections.workflows.engine import carry_on
from connections.workflows.pruning import prune
from connections.workflows.running import LEASE, sweep
from connections.workflows.runs import of_status, visible
from connections.workflows.showing import REDACTED, redact, shown_result
from external_apis import request_context
from external_apis.errors import (
    Conflict,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    NotFound,
    NothingToTake,
    NotUndone,
    StepFailed,
)
from external_apis.key_granting import Granter
from external_apis.models import AuditEvent, Tenant
from external_apis.tenancy import Scope
from tests.factories import make_connection, make_provider, make_tenant
from tests.workflow_runs import finish, stored, sweep_and_leave, work

pytestmark = pytest.mark.django_db


class Order(BaseModel):
    number: int = 1


Done = list[str]


@pytest.fixture
def done() -> Done:
    return []


@pytest.fixture
def make_step(done: Done) -> Callable[..., Step]:
    def make(name: str, act: Callable[[Context], Any] = lambda context: None, **options: Any) -> Step:
        def undo(context: Context, given: Any, result: Any) -> None:
            done.append(f"undo {name}")

        @step(**{"name": name, "compensate": undo, **options})
        def do(context: Context) -> Any:
            done.append(name)
            return act(context)

        return do

    return make


def refuse(context: Context) -> None:
    raise StepFailed("No.")


# --- start ------------------------------------------------------------------------------------------------------------


def test_a_key_starts_one_run(make_step: Callable[..., Step], done: Done) -> None:
    one = make_step("one")
    workflow("order", input=Order)(lambda context, given: one(context))
    tenant = make_tenant()
    first = start("order", {"number": 7}, idempotency_key="evt_1")
    assert start("order", {"number": 7}, idempotency_key="evt_1").pk == first.pk
    others = [
        start("order", idempotency_key="evt_2"),
        start("order", {"number": 7}, idempotency_key="evt_1", tenant=tenant.pk),
    ]
    assert len({first.pk, *(run.pk for run in others)}) == 3
    with pytest.raises(IdempotencyKeyReused):
        start("order", {"number": 8}, idempotency_key="evt_1")
    work()
    assert done == ["one"] * 3
    assert AuditEvent.objects.filter(action="workflow_run.started").count() == 3


def test_a_key_of_a_test_run_is_another_one_than_that_of_a_live_one(make_step: Callable[..., Step], done: Done) -> None:
    workflow("order", input=Order)(lambda context, given: None)
    granters = [Granter(Scope(is_sandbox=is_sandbox)) for is_sandbox in (True, False, None)]
    runs = [start("order", idempotency_key="evt_1", granter=granter) for granter in granters]
    assert [run.mode for run in runs] == ["test", "live", ""]
    assert len({run.pk for run in runs}) == 3
    again = [start("order", idempotency_key="evt_1", granter=granter) for granter in granters]
    assert [run.pk for run in again] == [run.pk for run in runs]


def test_what_python_takes_for_the_same_is_another_input() -> None:
    class Anything(BaseModel):
        value: Any

    workflow("order", input=Anything)(lambda context, given: None)
    start("order", {"value": 1}, idempotency_key="evt_1")
    for other in (True, 1.0, "1"):
        with pytest.raises(IdempotencyKeyReused):
            start("order", {"value": other}, idempotency_key="evt_1")


def test_what_is_given_is_compared_not_how_it_is_stored() -> None:
    """Neither the order of names and members nor a default that differs each time makes another input."""

    class Anything(BaseModel):
        value: Any = None
        tags: set[str] = set()
        at: datetime = Field(default_factory=timezone.now)

    workflow("order", input=Anything)(lambda context, given: None)
    names = [f"tag-{number}" for number in range(9)]
    first = start("order", {"value": {"a": 1, "b": {"2": "c"}}, "tags": names}, idempotency_key="evt_1")
    same = {"tags": names[::-1], "value": {"b": {"2": "c"}, "a": 1}}
    assert start("order", same, idempotency_key="evt_1").pk == first.pk
    assert "tag-1" not in first.input["given"]
    for other in (
        {"value": {"a": 1, "b": {"2": "d"}}},
        {"value": [["a", 1]]},
        {"tags": names[1:]},
        {"at": timezone.now()},
    ):
        with pytest.raises(IdempotencyKeyReused):
            start("order", {**same, **other}, idempotency_key="evt_1")


@pytest.mark.django_db(transaction=True)
def test_many_starters_with_one_key_start_one_run(make_step: Callable[..., Step]) -> None:
    workflow("order", input=Order)(lambda context, given: None)

    def begin(_: int) -> str:
        try:
            return start("order", idempotency_key="evt_1").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(begin, range(12)))) == 1
    assert WorkflowRun.objects.count() == 1


def test_an_event_starts_one_run_however_often_it_is_told(make_step: Callable[..., Step], done: Done) -> None:
    """As a handler of webhooks does, or any receiver of a signal."""
    one = make_step("one")
    workflow("order", input=Order)(lambda context, given: one(context))
    told = Signal()

    def receive(sender: Any, event_id: str, **_: Any) -> None:
        start("order", idempotency_key=event_id)

    told.connect(receive)
    for event_id in ("evt_1", "evt_1", "evt_2"):
        told.send(None, event_id=event_id)
    work()
    assert done == ["one", "one"]


def test_a_run_that_is_rolled_back_never_was(make_step: Callable[..., Step]) -> None:
    workflow("order", input=Order)(lambda context, given: None)
    with transaction.atomic():
        start("order")
        transaction.set_rollback(True)
    assert not WorkflowRun.objects.exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"number": "seven"}, {}),
        ({"number": 7, "else": 1}, {}),
        ({"number": "\0"}, {}),
        ({}, {"idempotency_key": "k" * 256}),
        ({}, {"idempotency_key": "\0"}),
    ],
)
def test_bad_input_starts_nothing(given: dict[str, Any], options: dict[str, Any]) -> None:
    class Strict(Order):
        model_config = {"extra": "forbid"}

    workflow("order", input=Strict)(lambda context, given: None)
    with pytest.raises(InvalidInput):
        start("order", given, **options)
    assert not WorkflowRun.objects.exists()


def test_a_workflow_says_which_scope_it_needs(make_step: Callable[..., Step]) -> None:
    """To be started, ended or tried again, as each of them may call somebody."""
    fails = make_step("fails", refuse)
    workflow("order", needs="proxy")(lambda context, given: fails(context))
    weak = Granter(scopes=frozenset(("workflows:write",)))
    strong = Granter(scopes=frozenset(("workflows:write", "proxy")))
    run = start("order", granter=strong)
    acts: list[Callable[[], Any]] = [
        lambda: start("order", granter=weak),
        lambda: workflows.cancel(stored(run), weak),
        lambda: workflows.retry(stored(run), weak),
    ]
    for state in RunState.values:
        WorkflowRun.objects.filter(pk=run.pk).update(state=state)
        for act in acts:
            with pytest.raises(Forbidden, match="proxy"):
                act()
    WorkflowRun.objects.filter(pk=run.pk).update(state=RunState.OPEN)
    assert workflows.cancel(run, strong).cancel_requested_at
    WorkflowRun.objects.filter(pk=run.pk).update(workflow="forgotten")
    with pytest.raises(Forbidden):
        workflows.cancel(stored(run), strong)


def test_a_deactivated_tenant_has_nothing_done(make_step: Callable[..., Step], done: Done) -> None:
    one, fails = make_step("one"), make_step("fails", refuse)
    workflow("order")(lambda context, given: one(context))
    workflow("fails")(lambda context, given: [one(context), fails(context)])
    tenant = make_tenant()
    run, reverting = start("order", tenant=tenant.pk), start("fails", tenant=tenant.pk)
    (claimed,) = [one for one in claim(WorkflowRun, 2, LEASE) if one.pk == reverting.pk]
    carry_on(claimed, lambda: len(done) == 2)
    Tenant.objects.update(is_active=False)
    with pytest.raises(Conflict, match="deactivated"):
        start("order", tenant=tenant.pk)
    assert done == ["one", "fails"]
    WorkflowRun.objects.update(due_at=timezone.now())
    work()
    assert (done, stored(run).state, stored(run).tries) == (["one", "fails"], RunState.OPEN, 0)
    assert "deactivated" in stored(run).error_message
    Tenant.objects.update(is_active=True)
    finish(run)
    finish(reverting)
    assert done == ["one", "fails", "one", "undo one"]


def test_a_granter_starts_for_the_own_tenant_alone() -> None:
    workflow("order", input=Order)(lambda context, given: None)
    mine, theirs = make_tenant(), make_tenant()
    granter = Granter(Scope(mine.pk))
    assert start("order", granter=granter).tenant_id == mine.pk
    for tenant in (theirs.pk, "ten_missing"):
        with pytest.raises(NotFound, match=f"Tenant {tenant} not found"):
            start("order", tenant=tenant, granter=granter)


def test_a_workflow_decides_who_may_start_it() -> None:
    def admit(given: Order, granter: Granter) -> Order:
        if granter.scopes != {"*"}:
            raise Forbidden("No.")
        return Order(number=given.number + 1)

    workflow("order", input=Order, admit=admit)(lambda context, given: given.number)
    with pytest.raises(Forbidden):
        start("order", granter=Granter(scopes=frozenset(("workflows:write",))))
    run = start("order", {"number": 1})
    work()
    assert workflows.result_of(stored(run)) == 2


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_a_run_is_of_its_tenant_and_mode() -> None:
    workflow("order", input=Order)(lambda context, given: None)
    mine, theirs = make_tenant(), make_tenant()
    scopes = {
        "all": Scope(),
        "mine": Scope(mine.pk),
        "theirs": Scope(theirs.pk),
        "test": Scope(None, is_sandbox=True),
        "live": Scope(None, is_sandbox=False),
    }
    runs = {name: start("order", granter=Granter(scope)).pk for name, scope in scopes.items()}
    seen = {name: {run.pk for run in visible(scope)} for name, scope in scopes.items()}
    assert seen["all"] == set(runs.values())
    assert (seen["mine"], seen["theirs"], seen["test"]) == ({runs["mine"]}, {runs["theirs"]}, {runs["test"]})
    assert seen["live"] == set(runs.values()) - {runs["test"]}
    with pytest.raises(NotFound):
        workflows.find(runs["theirs"], scopes["mine"])


def test_a_run_uses_its_tenants_connections_alone(make_step: Callable[..., Step]) -> None:
    mine, theirs = make_tenant(), make_tenant()
    api = make_provider(slug="shared")
    rows = {"mine": make_connection(api, tenant=mine), "theirs": make_connection(api, tenant=theirs)}
    rows["global"] = make_connection(api)
    missing = "conn_" + "0" * 26
    reference = {"now": ""}

    @step(name="open", retries=0)
    def open_one(context: Context) -> str:
        return context.get_api_client(reference["now"]).target.connection_id

    workflow("open")(lambda context, given: open_one(context))

    def outcome(name: str, tenant: Any) -> tuple[str, str]:
        reference["now"] = name
        run = start("open", tenant=tenant and tenant.pk)
        work()
        return stored(run).state, stored(run).error_message.replace(name, "ID")

    assert outcome(rows["mine"].pk, mine) == ("succeeded", "")
    assert outcome("shared", mine) == ("succeeded", "")
    refused = outcome(missing, mine)
    assert refused == ("reverted", "Connection ID not found")
    assert {outcome(rows[name].pk, mine) for name in ("theirs", "global")} == {refused}
    assert outcome(rows["theirs"].pk, None) == ("succeeded", "")


def test_a_test_keys_run_does_not_reach_what_is_live(make_step: Callable[..., Step]) -> None:
    live, sandbox = make_connection(), make_connection(make_provider(is_sandbox=True))
    found = []

    @step(name="open", retries=0)
    def open_both(context: Context) -> None:
        context.get_api_client(sandbox.pk)
        found.append(sandbox.pk)
        context.get_api_client(live.pk)
        found.append(live.pk)

    workflow("open")(lambda context, given: open_both(context))
    start("open", granter=Granter(Scope(None, is_sandbox=True)))
    work()
    assert found == [sandbox.pk]


def test_steps_act_as_whoever_started_the_run(make_step: Callable[..., Step]) -> None:
    seen = []
    who = make_step("who", lambda context: seen.append(request_context.current()))
    workflow("order")(lambda context, given: who(context))
    with request_context.acting("user:alice"):
        request_id = request_context.current().request_id
        start("order")
    start("order")
    work()
    assert {(context.actor, context.request_id) for context in seen} >= {("user:alice", request_id)}
    assert {context.actor for context in seen} == {"user:alice", "workflow:order"}


# --- wait -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_with_the_run_or_with_the_time() -> None:
    workflow("order", input=Order)(lambda context, given: given.number)
    run = start("order")
    began = time.monotonic()
    assert workflows.wait(run.pk, 0.1).state == RunState.OPEN
    assert time.monotonic() - began < 1
    timer = threading.Timer(0.1, sweep_and_leave)
    timer.start()
    assert workflows.wait(run.pk, 10).state == RunState.SUCCEEDED
    timer.join()


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_is_cancelled_at_once_and_undone(make_step: Callable[..., Step], done: Done) -> None:
    def stumble(context: Context) -> None:
        raise ConnectionError

    one, two = make_step("one"), make_step("two", stumble, backoff_seconds=600)
    workflow("order")(lambda context, given: [one(context), two(context)])
    run = start("order")
    work()
    assert status_of(stored(run)) == RunStatus.WAITING
    workflows.cancel(run)
    assert AuditEvent.objects.filter(action="workflow_run.cancel_requested").count() == 1
    workflows.cancel(run)  # asked again
    assert AuditEvent.objects.filter(action="workflow_run.cancel_requested").count() == 1
    work()
    assert stored(run).state == RunState.CANCELLED
    # What two has done nobody knows.
    assert done == ["one", "two", "undo two", "undo one"]
    assert (stored(run).error_code, stored(run).tries) == ("WORKFLOW_CANCELLED", 0)
    with pytest.raises(Conflict, match="cancelled"):
        workflows.cancel(run)


def test_a_run_under_way_is_cancelled_between_two_steps(make_step: Callable[..., Step], done: Done) -> None:
    one = make_step("one", lambda context: workflows.cancel(WorkflowRun.objects.get(pk=context.run_id)) and None)
    two = make_step("two")
    workflow("order")(lambda context, given: [one(context), two(context)])
    run = start("order")
    assert work() == 1  # nobody else took it up meanwhile
    assert (stored(run).state, done) == (RunState.CANCELLED, ["one", "undo one"])


def test_a_run_that_is_cancelled_in_its_last_step_is_undone(make_step: Callable[..., Step], done: Done) -> None:
    one = make_step("one", lambda context: workflows.cancel(WorkflowRun.objects.get(pk=context.run_id)) and None)
    workflow("order")(lambda context, given: one(context))
    run = start("order")
    work()
    assert (stored(run).state, done) == (RunState.CANCELLED, ["one", "undo one"])


def test_a_run_that_has_not_begun_is_cancelled(make_step: Callable[..., Step], done: Done) -> None:
    one = make_step("one")
    workflow("order")(lambda context, given: one(context))
    run = start("order")
    assert status_of(run) == RunStatus.PENDING
    workflows.cancel(run)
    work()
    assert (stored(run).state, done) == (RunState.CANCELLED, [])


# --- retry ------------------------------------------------------------------------------------------------------------


def test_a_reverted_run_is_retried_as_another(make_step: Callable[..., Step], done: Done) -> None:
    answers = iter([StepFailed("No.")])

    def waver(context: Context) -> None:
        if error := next(answers, None):
            raise error

    one, two = make_step("one"), make_step("two", waver)
    tenant = make_tenant()
    workflow("order", input=Order)(lambda context, given: [one(context), two(context), given.number])
    run = start("order", {"number": 7}, tenant=tenant.pk)
    with pytest.raises(Conflict, match="pending"):
        workflows.retry(run)
    work()
    again = workflows.retry(stored(run))
    assert (again.pk != run.pk, again.retry_of_id, again.tenant_id) == (True, run.pk, tenant.pk)
    assert workflows.retry(stored(run)).pk == again.pk
    work()
    assert workflows.result_of(stored(again)) == [None, None, 7]
    assert stored(run).state == RunState.REVERTED
    with pytest.raises(Conflict, match="succeeded"):
        workflows.retry(stored(again))


@pytest.mark.parametrize("was_done", [False, True])
def test_what_is_not_undone_is_done_again_only_on_purpose(
    make_step: Callable[..., Step], done: Done, was_done: bool
) -> None:
    """A text message that was sent, or may have been, and that nothing takes back."""

    def stumble(context: Context) -> None:
        raise ConnectionError

    send = make_step("send", (lambda context: None) if was_done else stumble, compensate=None, is_repeatable=False)
    look = make_step("look", refuse, compensate=workflows.nothing_to_undo)
    workflow("order")(lambda context, given: [send(context), look(context)])
    run = start("order")
    work()
    run = stored(run)
    assert run.state == (RunState.REVERTED if was_done else RunState.FAILED)
    for _ in range(2):
        with pytest.raises(NotUndone, match="send"):
            workflows.retry(stored(run))
    again = workflows.retry(stored(run), confirm=True)
    assert (again.retry_of_id, workflows.retry(stored(run), confirm=True).pk) == (run.pk, again.pk)
    work()
    assert done.count("send") == 2


def test_what_only_reads_leaves_nothing(make_step: Callable[..., Step], done: Done) -> None:
    def stumble(context: Context) -> None:
        raise ConnectionError

    look = make_step("look", stumble, compensate=workflows.nothing_to_undo, retries=0)
    workflow("order")(lambda context, given: look(context))
    run = start("order")
    work()
    assert stored(run).state == RunState.REVERTED
    assert workflows.retry(stored(run)).retry_of_id == run.pk


def test_of_a_failed_run_the_compensations_that_failed_are_retried(make_step: Callable[..., Step], done: Done) -> None:
    problems = [StepFailed("It stays.")]

    def undo(context: Context, given: Any, result: Any) -> None:
        done.append("undo two")
        if problems:
            raise problems.pop()

    steps = make_step("one"), make_step("two", compensate=undo), make_step("three", refuse)
    workflow("order")(lambda context, given: [one(context) for one in steps])
    run = start("order")
    work()
    assert stored(run).state == RunState.FAILED
    assert workflows.retry(stored(run)).pk == run.pk
    work()
    run = stored(run)
    assert (run.state, run.error_code) == (RunState.REVERTED, "STEP_FAILED")
    assert done == ["one", "two", "three", "undo two", "undo one", "undo two"]
    assert [row.undo for row in run.steps.all()] == [UndoState.DONE, UndoState.DONE, UndoState.NONE]


# --- take over --------------------------------------------------------------------------------------------------------


@pytest.fixture
def leaving(make_step: Callable[..., Step]) -> WorkflowRun:
    leave = make_step("leave", lambda context: context.hand_over(token="swordfish"))
    workflow("leave")(lambda context, given: leave(context))
    with request_context.acting("user:alice"):
        run = start("leave")
        with pytest.raises(Conflict, match="pending"):
            workflows.take_over(run)
    work()
    return stored(run)


def test_what_is_handed_over_is_taken_once_by_whoever_started_the_run(leaving: WorkflowRun) -> None:
    assert leaving.hands_over
    assert workflows.result_of(leaving) is None
    with request_context.acting("user:bob"), pytest.raises(Forbidden):
        workflows.take_over(leaving)
    with request_context.acting("user:alice"):
        assert workflows.take_over(leaving) == {"token": "swordfish"}
        with pytest.raises(NothingToTake):
            workflows.take_over(leaving)
    assert not stored(leaving).hands_over
    assert set(leaving.steps.get().contents) == {"input", "result"}
    event = AuditEvent.objects.get(action="workflow_run.taken_over")
    assert (event.changes, event.actor) == ({"read": ["token"]}, "user:alice")


def test_steps_may_hand_over_under_one_name(make_step: Callable[..., Step]) -> None:
    steps = [make_step(name, lambda context: context.hand_over(token=context.idempotency_key)) for name in "abc"]
    workflow("leave")(lambda context, given: [one(context) for one in steps])
    run = start("leave")
    work()
    taken = workflows.take_over(stored(run))
    assert taken == {"token": f"{run.pk}-1", "token-2": f"{run.pk}-2", "token-3": f"{run.pk}-3"}


def test_only_steps_hand_over_text(make_step: Callable[..., Step], done: Done) -> None:
    one = make_step("one", lambda context: context.hand_over(token=5))
    odd = make_step("odd", lambda context: context.hand_over(**{"to ken": "swordfish"}))
    workflow("no-text")(lambda context, given: one(context))
    workflow("no-name")(lambda context, given: odd(context))
    workflow("in-the-body")(lambda context, given: context.hand_over(token="swordfish"))
    runs = [start("no-text"), start("in-the-body"), start("no-name")]
    work()
    assert [stored(run).error_code for run in runs] == ["UNEXPECTED_ERROR", "WORKFLOW_BROKEN", "UNEXPECTED_ERROR"]
    assert [stored(run).error_message for run in runs[::2]] == ["token is no text.", "'to ken' is no name."]
    assert sorted(done) == ["odd", "one", "undo odd", "undo one"], "another attempt would do no better"
    assert not any(stored(run).hands_over for run in runs)
    with pytest.raises(NothingToTake):
        workflows.take_over(stored(runs[0]))


def test_what_nobody_takes_is_wiped_after_a_day(leaving: WorkflowRun) -> None:
    prune()
    assert stored(leaving).hands_over
    WorkflowRun.objects.update(finished_at=timezone.now() - timedelta(days=1, minutes=1))
    prune()
    assert not stored(leaving).hands_over
    assert "once" not in leaving.steps.get().contents


def test_old_runs_are_pruned_with_their_steps(leaving: WorkflowRun, settings: Any) -> None:
    workflow("order", input=Order)(lambda context, given: None)
    settings.WORKFLOW_RUNS_KEPT_DAYS = 2
    running_still, kept = start("order"), start("order")
    WorkflowRun.objects.filter(pk=kept.pk).update(state=RunState.SUCCEEDED, finished_at=timezone.now())
    WorkflowRun.objects.filter(pk=leaving.pk).update(finished_at=timezone.now() - timedelta(days=3))
    assert prune() == 1
    assert set(WorkflowRun.objects.values_list("pk", flat=True)) == {running_still.pk, kept.pk}


@pytest.mark.django_db(transaction=True)
def test_a_tenants_runs_go_with_it(make_step: Callable[..., Step]) -> None:
    one = make_step("one")
    workflow("order")(lambda context, given: one(context))
    tenant = make_tenant()
    mine, other = start("order", tenant=tenant.pk), start("order")
    work()
    tenant.delete()
    assert [run.pk for run in WorkflowRun.objects.all()] == [other.pk]
    assert [row.run_id for row in WorkflowStep.objects.all()] == [other.pk]
    assert not WorkflowRun.objects.filter(pk=mine.pk).exists()


# --- the sweep --------------------------------------------------------------------------------------------------------


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_a_step_ends_is_not_missed(
    make_step: Callable[..., Step], done: Done, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a step raises: others are carried on, the sweep ends, and the run's lease runs out."""

    def leave(context: Context) -> None:
        raise KeyboardInterrupt

    bad, good = make_step("bad", leave), make_step("good")
    workflow("bad")(lambda context, given: bad(context))
    workflow("good")(lambda context, given: good(context))
    left = [start("bad") for _ in range(running.THREADS)]
    for _ in range(3):
        start("good")
    worker = threading.Thread(target=sweep_and_leave, daemon=True)
    worker.start()
    worker.join(15)
    assert not worker.is_alive()
    assert (done.count("bad"), done.count("good")) == (running.THREADS, 3)
    assert {stored(run).state for run in left} == {RunState.OPEN}
    assert "KeyboardInterrupt" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_cannot_be_started_leaves_its_run_to_others(
    make_step: Callable[..., Step], done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_step("good")
    workflow("good")(lambda context, given: good(context))
    run = start("good")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            sweep()
    assert done == []
    WorkflowRun.objects.update(due_at=timezone.now())
    sweep()
    assert stored(run).state == RunState.SUCCEEDED


@pytest.mark.django_db(transaction=True)
def test_leases_are_extended_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose clock is an hour late keeps its runs all the same."""
    workflow("order", input=Order)(lambda context, given: None)
    run = start("order")
    (claimed,) = claim(WorkflowRun, 1, LEASE)
    now = timezone.now()
    with time_machine.travel(now - timedelta(hours=1)):
        journal.extend([claimed], timedelta(minutes=1))
    due_at = stored(run).due_at
    assert due_at is not None
    assert now + timedelta(seconds=59) < due_at < now + timedelta(minutes=2)


@pytest.mark.django_db(transaction=True)
def test_runs_are_handed_back_by_the_databases_clock() -> None:
    workflow("order", input=Order)(lambda context, given: None)
    run = start("order")
    (claimed,) = claim(WorkflowRun, 1, LEASE)
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        journal.Journal(claimed).hand_back()
    due_at = stored(run).due_at
    assert due_at is not None
    assert due_at < timezone.now()


@pytest.mark.django_db(transaction=True)
def test_a_slow_run_does_not_hold_up_others_and_keeps_its_lease(
    make_step: Callable[..., Step], done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_BEAT_SECONDS", 0.05)
    is_free = threading.Event()
    slow, quick = make_step("slow", lambda context: is_free.wait(60) and None), make_step("quick")
    workflow("slow")(lambda context, given: slow(context))
    workflow("quick")(lambda context, given: quick(context))
    late = start("slow")
    for _ in range(20):
        start("quick")
    worker = threading.Thread(target=sweep_and_leave)
    worker.start()
    wait_for(lambda: done.count("quick") == 20)
    first = stored(late).due_at
    assert first is not None
    wait_for(lambda: (stored(late).due_at or first) > first)
    assert sweep() == 0
    assert stored(late).state == RunState.OPEN
    is_free.set()
    worker.join(30)
    assert (stored(late).state, done.count("slow")) == (RunState.SUCCEEDED, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("victim", ["extend", "claim"])
def test_a_lease_is_kept_although_a_database_session_is_lost(
    make_step: Callable[..., Step], done: Done, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """PostgreSQL ends the sweep's session under it: the next extension uses another one, and nobody takes the run."""
    monkeypatch.setattr(running, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(running, "THREADS", 1 if victim == "extend" else 8)
    is_free, lost = threading.Event(), threading.Event()
    slow = make_step("slow", lambda context: is_free.wait(60) and None)
    workflow("slow")(lambda context, given: slow(context))
    run = start("slow")
    real = getattr(running, victim)

    def lose_session(*args: Any) -> Any:
        if done and not lost.is_set():
            lost.set()
            with connection.cursor() as cursor, suppress(DatabaseError):
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return real(*args)

    def sweep_until_done() -> None:
        with suppress(DatabaseError):
            sweep()
        connection.close()

    monkeypatch.setattr(running, victim, lose_session)
    worker = threading.Thread(target=sweep_until_done)
    worker.start()
    try:
        assert lost.wait(10)
        first = stored(run).due_at
        assert first is not None
        wait_for(lambda: (stored(run).due_at or first) > first)
    finally:
        is_free.set()
        worker.join(30)
    assert (stored(run).state, done) == (RunState.SUCCEEDED, ["slow"])


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_due_again_at_once_is_kept_by_its_new_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep takes it up while the thread that handed it back has not come to its end."""
    workflow("order")(lambda context, given: None)
    start("order")
    errors: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda problem: errors.append(problem.exc_type.__name__))
    is_claimed_again, has_first_ended = threading.Event(), threading.Event()
    extended: list[int] = []

    def carry_on(run: WorkflowRun, is_over: Callable[[], bool]) -> None:
        if run.fence == 1:
            journal.Journal(run).hand_back()
            assert is_claimed_again.wait(10)
        else:
            is_claimed_again.set()
            has_first_ended.wait(10)
            journal.Journal(run).succeed("null")
        connection.close()

    def extend(runs: list[WorkflowRun], lease: timedelta) -> None:
        extended[:] = [run.fence for run in runs]
        if is_claimed_again.is_set() and extended == [2]:
            has_first_ended.set()

    monkeypatch.setattr(running, "_carry_on", carry_on)
    monkeypatch.setattr(running, "extend", extend)
    monkeypatch.setattr(running, "_BEAT_SECONDS", 0.02)
    worker = threading.Thread(target=sweep_and_leave, daemon=True)
    worker.start()
    try:
        assert has_first_ended.wait(3), "nobody extends the lease of the second claim"
    finally:
        has_first_ended.set()
        worker.join(10)
    assert errors == []


@pytest.mark.django_db(transaction=True)
def test_a_sweep_that_cannot_claim_keeps_its_place_while_it_has_runs(
    make_step: Callable[..., Step], done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each beat of an ailing database would add another sweep with threads of its own."""
    is_free, has_left = threading.Event(), threading.Event()
    slow = make_step("slow", lambda context: is_free.wait(10) and None)
    workflow("slow")(lambda context, given: slow(context))
    run, asked = start("slow"), list[bool]()

    def refuse_later(*args: Any) -> list[WorkflowRun]:
        if not done:
            return claim(*args)
        asked.append(has_left.is_set())
        raise DatabaseError

    def work() -> None:
        sweep(seconds=0.3, leave=has_left.set)
        connection.close()

    monkeypatch.setattr(running, "claim", refuse_later)
    monkeypatch.setattr(running, "_AWAY_SECONDS", 0.02)
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        assert has_left.wait(5)
    finally:
        is_free.set()
        worker.join(10)
    assert (len(asked) > 2, any(asked), stored(run).state) == (True, False, RunState.SUCCEEDED)


def test_a_worker_that_is_to_stop_hands_runs_back_between_steps(make_step: Callable[..., Step], done: Done) -> None:
    one, two = make_step("one"), make_step("two")
    workflow("order")(lambda context, given: [one(context), two(context)])
    run = start("order")
    (claimed,) = claim(WorkflowRun, 1, LEASE)
    carry_on(claimed, lambda: bool(done))
    run = stored(run)
    assert (status_of(run), done, run.is_in_doubt, run.attempts) == (RunStatus.WAITING, ["one"], False, 0)
    work()
    assert (stored(run).state, done) == (RunState.SUCCEEDED, ["one", "two"])


@pytest.mark.django_db(transaction=True)
def test_several_sweeps_take_different_runs(make_step: Callable[..., Step], done: Done) -> None:
    one = make_step("one", lambda context: time.sleep(0.005))
    workflow("order")(lambda context, given: one(context))
    for _ in range(60):
        start("order")

    def work(_: int) -> int:
        try:
            return sweep()
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(work, range(3)))
    assert (sum(counts), len(done)) == (60, 60)


# --- telling ----------------------------------------------------------------------------------------------------------


def test_statuses_are_filtered_as_they_are_told(make_step: Callable[..., Step]) -> None:
    workflow("order", input=Order)(lambda context, given: None)
    rows = [
        {"state": state, "fence": fence, "handed_back": back}
        for state in RunState.values
        for fence, back in ((0, 0), (1, 0), (1, 1))
    ]
    for row in rows:
        WorkflowRun.objects.create(workflow="order", input={"json": "{}"}, **row)
    everything = WorkflowRun.objects.all()
    for status in RunStatus:
        assert {run.pk for run in of_status(everything, status)} == {
            run.pk for run in everything if status_of(run) == status
        }
        assert of_status(everything, status).exists()


def test_what_is_shown_is_redacted() -> None:
    value = {
        "payment_intent_id": "pi_1", "id": "x y", "status": "succeeded", "amount": 5, "is_good": True, "none": None,
        "message": "secret text", "session_id": "s", "api_key": {"id": "apk_1", "redacted": "sk_live_...abcd"},
        "people": [{"name": "Ada"}], "client_secret_id": "no", "numbers": [1, "two"],
    }  # fmt: skip
    assert redact(value) == {
        "payment_intent_id": "pi_1", "id": REDACTED, "status": "succeeded", "amount": 5, "is_good": True, "none": None,
        "message": REDACTED, "session_id": REDACTED, "api_key": {"id": "apk_1", "redacted": "sk_live_...abcd"},
        "people": [{"name": REDACTED}], "client_secret_id": REDACTED, "numbers": [1, REDACTED],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("card", 4111111111111111), ("card_number", "4111111111111111"), ("number", 4111111111111111),
        ("pin", 1234), ("cardPin", 1234), ("otp", "123456"), ("otp_id", 123456), ("national_id", "AB123456C"),
        ("customer_id", "ada@example.com"), ("external_id", "1234567890"), ("user_id", "49 151 12345678"),
        ("id", "card_4111111111111111"), ("state", "4111111111111111"), ("status", "4111.1111.1111.1111"),
        ("ratio", 4111111111111111.0), ("phone_id", 4711), ("birth_year", 1971), ("cvc", 123), ("ts", "4111111111"),
        ("number", -41111111), ("social_security_state", "x1"), ("passport_type", "C01X"),
        ("cvv2", 123), ("cvc2", 123), ("pin2", 1234), ("security_code", 123), ("passcode", 1234), ("pincode", 1234),
        ("verification_code", 123456), ("securityCode", 123),
        ("totp", 123456), ("mfa", 123456), ("sms_code", 123456), ("code", 1234), ("cvn", 123), ("cv2", 123),
        ("ccv", 123), ("cid", 123), ("pins", 1234), ("pwd", 1234), ("passwd", 1234), ("pass", 1234), ("pass2", 1234),
        ("access_key_id", "AKIA" + "IOSFODNNEXAMPLEX"), ("id", "ASIA" + "IOSFODNNEXAMPLEX"),
        # Card numbers, by their check digit, whatever they count.
        ("amount", 4111111111111111), ("count", 378282246310005),
        # What opens something, and addresses that do.
        ("id", "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"), ("status", "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"),
        ("state", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N"),
        ("type", "xoxb-" + "1a2b3c4d5e6f7g8h9i0j"),
        ("external_id", "dGhpc0lzQVNlY3JldDEyMzQ1Njc4OTA"), ("id", "https://hooks.example.com/services/T0/B0/x"),
        ("redacted", "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("user_id", "a/b/c/d"),
    ],
)  # fmt: skip
def test_what_may_be_somebodys_is_not_shown(name: str, value: Any) -> None:
    assert redact({name: value}) == {name: REDACTED}
    assert redact({name: [value]}) == {name: [REDACTED]}


def test_what_belongs_to_a_hidden_name_is_hidden() -> None:
    assert redact({"card": {"id": "card_x", "year": 2030, "is_good": True}}) == {
        "card": {"id": REDACTED, "year": REDACTED, "is_good": True}
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", 1234567890), ("position", 7), ("number", 123456),
        ("payment_intent_id", "pi_3MtwBwLkdIwHu7ix28a3tqPa"),
        ("message_sid", "SM12345678" + "0" * 24), ("ts", "1768903200.000100"), ("id", "run_01KAMX3J9Y8Q1234567890ABCD"),
        ("connection_id", "twilio/default"), ("sid", "AC" + "0" * 32), ("ratio", 0.25), ("currency", "eur"),
        ("id", "0b7f6d5e-4c3b-4a29-9187-6f5e4d3c2b1a"), ("status", "requires_payment_method"), ("code", 404),
        ("amount", 4111111111111112), ("post_id", "1_2"), ("type", "payment_intent.succeeded"),
    ],
)  # fmt: skip
def test_what_names_things_is_shown(name: str, value: Any) -> None:
    assert redact({name: value}) == {name: value}


def test_what_is_deep_is_shown_as_far_as_it_goes() -> None:
    for depth in (50, 10_000):
        for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            run = WorkflowRun(result={"json": text})
            assert "\u2026" in str(shown_result(run))
    assert redact([[[[[[1]]]]]]) == [[[[[[1]]]]]]


def test_names_that_are_somebodys_are_masked() -> None:
    value = {"ada@example.com": {"status": "sent"}, "4111111111111111": 1, "x" * 61: 2, "plain-name": 3}
    for token in (
        "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "AKIA" + "IOSFODNNEXAMPLEX",
        "dGhpc0lzQVNlY3JldDEyMzQ1Njc4OTA",
    ):
        assert redact({token: True, "address_line_1_of_the_customer": 1}) == {
            f"{REDACTED} 1": True, "address_line_1_of_the_customer": 1
        }  # fmt: skip
    shown = redact(value)
    assert shown == {f"{REDACTED} 1": {"status": "sent"}, f"{REDACTED} 2": 1, f"{REDACTED} 3": 2, "plain-name": 3}
