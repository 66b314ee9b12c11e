"""Steps in order, each stored once; failures undone in reverse; what may have happened before is never forgotten."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal

import pytest
from django.db import DatabaseError, DataError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pydantic import BaseModel, create_model

from connections.due_work import claim
from connections.models import RunState, UndoState, WorkflowRun
from connections.workflows import (
    Context,
    cancel,
    definitions,
    engine,
    input_of,
    journal,
    nothing_to_undo,
    result_of,
    retry,
    reverting,
    start,
    step,
    workflow,
)
from connections.workflows.definitions import Step
from connections.workflows.engine import carry_on
from connections.workflows.journal import Overtaken
from connections.workflows.running import LEASE
from external_apis.errors import (
    ConnectFailed,
    NotFound,
    NotUndone,
    StepFailed,
    UpstreamClientError,
    UpstreamServerError,
)
from external_apis.models import AuditEvent, Tenant
from tests.workflow_runs import finish, stored, work

pytestmark = pytest.mark.django_db


class Numbers(BaseModel):
    number: int = 1


class Protocol:
    """Makes steps that write down what happens, and a workflow that calls them."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.keys: list[str] = []

    def step(self, name: str, *, fails: Exception | None = None, **options: Any) -> Step:
        def undo(context: Context, given: Any, result: Any) -> None:
            self.keys.append(context.idempotency_key)
            self.lines.append((f"undo {name}", dict(given), result))

        @step(**{"name": name, "compensate": undo, **options})
        def do(context: Context, **given: Any) -> Any:
            self.keys.append(context.idempotency_key)
            self.lines.append(name)
            if fails is not None:
                raise fails
            return {"of": name, **given}

        return do

    def undone(self) -> list[str]:
        return [line[0].removeprefix("undo ") for line in self.lines if isinstance(line, tuple)]


@pytest.fixture
def told() -> Protocol:
    return Protocol()


def body_of(*steps: Step) -> Callable[..., Any]:
    def body(context: Context, given: Any) -> Any:
        return [one(context, number=given.number) for one in steps]

    return body


def take(run: WorkflowRun, *, after_death: bool = False) -> WorkflowRun:
    """Claim a run, as its predecessor's lease having run out if that died."""
    if after_death:
        WorkflowRun.objects.filter(pk=run.pk).update(due_at=timezone.now())
    (found,) = claim(WorkflowRun, 1, LEASE)
    assert found.pk == run.pk
    return found


def test_steps_run_in_order_and_once(told: Protocol) -> None:
    one, two = told.step("one"), told.step("two")
    workflow("both", input=Numbers)(body_of(one, two))
    run = start("both", {"number": 7})
    assert work() == 1
    run = stored(run)
    assert (run.state, run.due_at, run.error_code) == (RunState.SUCCEEDED, None, "")
    assert told.lines == ["one", "two"]
    assert told.keys == [f"{run.pk}-1", f"{run.pk}-2"]
    assert result_of(run) == [{"of": "one", "number": 7}, {"of": "two", "number": 7}]
    assert input_of(run) == {"number": 7}
    assert [(row.position, row.name, row.state) for row in run.steps.all()] == [(1, "one", "done"), (2, "two", "done")]
    assert all(row.finished_at >= row.started_at for row in run.steps.all())
    assert work() == 0


def test_what_is_stored_is_sealed(told: Protocol) -> None:
    workflow("quiet", input=Numbers)(body_of(told.step("one")))
    run = start("quiet", {"number": 424242})
    work()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r::text || s::text FROM connections_workflowrun r JOIN connections_workflowstep s ON true"
        )
        ((text,),) = cursor.fetchall()
    assert run.pk in text
    assert "424242" not in text
    assert b"424242".hex() not in text


def test_a_failure_undoes_in_reverse(told: Protocol) -> None:
    steps = told.step("one"), told.step("two"), told.step("three", fails=StepFailed("No."))
    workflow("fails", input=Numbers)(body_of(*steps))
    run = finish(start("fails", {"number": 3}))
    assert (run.state, run.error_code, run.error_message) == (RunState.REVERTED, "STEP_FAILED", "No.")
    assert told.lines == [
        "one",
        "two",
        "three",
        ("undo two", {"number": 3}, {"of": "two", "number": 3}),
        ("undo one", {"number": 3}, {"of": "one", "number": 3}),
    ]
    assert told.keys[3:] == [f"{run.pk}-2-undo", f"{run.pk}-1-undo"]
    assert [row.undo for row in run.steps.all()] == ["done", "done", ""]
    assert AuditEvent.objects.filter(action="workflow_run.reverted", object_id=run.pk).count() == 1


@pytest.mark.parametrize(
    ("error", "is_undone"),
    [
        (StepFailed("Definitely not."), False),
        (StepFailed("Perhaps.", may_have_happened=True), True),
        (ConnectFailed("Nothing was sent."), False),
        (UpstreamServerError("It broke.", upstream_status=500, may_have_happened=True), True),
        (ValueError("swordfish"), True),
    ],
)
def test_the_failing_step_is_undone_where_it_may_have_had_an_effect(
    told: Protocol, error: Exception, is_undone: bool
) -> None:
    workflow("fails", input=Numbers)(body_of(told.step("only", fails=error, retries=1)))
    run = finish(start("fails"))
    assert run.state == RunState.REVERTED
    assert told.undone() == ["only"] * is_undone
    assert not is_undone or told.lines[-1] == ("undo only", {"number": 1}, None)
    assert "swordfish" not in run.error_message + run.steps.get().error_message


def test_a_compensation_that_fails_does_not_stop_the_others(told: Protocol) -> None:
    def refuse(context: Context, given: Any, result: Any) -> None:
        told.lines.append(("undo two", {}, None))
        raise StepFailed("It stays.")

    steps = told.step("one"), told.step("two", compensate=refuse), told.step("three", fails=StepFailed("No."))
    workflow("fails", input=Numbers)(body_of(*steps))
    run = finish(start("fails"))
    assert run.state == RunState.FAILED
    assert told.undone() == ["two", "one"]
    assert [(row.undo, row.undo_error) for row in run.steps.all()] == [
        ("done", ""),
        ("failed", "STEP_FAILED: It stays."),
        ("", ""),
    ]


def test_a_failure_that_may_pass_is_tried_again_under_the_same_key(told: Protocol) -> None:
    fails = iter([ConnectFailed("Away."), ConnectFailed("Still away.")])

    @step(name="shaky", retries=2, backoff_seconds=60)
    def shaky(context: Context) -> int:
        told.keys.append(context.idempotency_key)
        if error := next(fails, None):
            raise error
        return 1

    workflow("patient")(lambda context, given: shaky(context))
    run = start("patient")
    for tries, wait in ((1, 60), (2, 120)):
        work()
        run = stored(run)
        assert (run.state, run.tries, run.error_code) == (RunState.OPEN, tries, "CONNECT_FAILED")
        assert run.due_at is not None
        assert timedelta(seconds=wait * 0.7) < run.due_at - timezone.now() <= timedelta(seconds=wait)
        assert work() == 0
        WorkflowRun.objects.update(due_at=timezone.now())
    work()
    run = stored(run)
    assert (run.state, run.error_code, run.steps.get().tries) == (RunState.SUCCEEDED, "", 2)
    assert told.keys == [f"{run.pk}-1"] * 3


def test_a_failure_is_tried_again_so_often_and_no_more(told: Protocol) -> None:
    workflow("stubborn", input=Numbers)(body_of(told.step("only", fails=ConnectFailed("Away."), retries=2)))
    run = finish(start("stubborn"))
    assert (run.state, told.lines, run.steps.get().tries) == (RunState.REVERTED, ["only"] * 3, 3)


def test_a_compensation_is_tried_again_too(told: Protocol) -> None:
    fails = iter([ConnectFailed("Away.")])

    def undo(context: Context, given: Any, result: Any) -> None:
        told.lines.append(("undo one", {}, None))
        if error := next(fails, None):
            raise error

    steps = told.step("one", compensate=undo), told.step("two", fails=StepFailed("No."))
    workflow("fails", input=Numbers)(body_of(*steps))
    run = finish(start("fails"))
    assert (run.state, run.error_code, told.undone()) == (RunState.REVERTED, "STEP_FAILED", ["one", "one"])


@pytest.mark.parametrize(
    ("error", "is_other"),
    [
        (StepFailed("No."), True),
        (UpstreamClientError("No.", upstream_status=402), True),
        (UpstreamClientError("The one before is under way.", upstream_status=409), False),
        (UpstreamServerError("Perhaps.", upstream_status=502, may_have_happened=True), False),
        (StepFailed("Perhaps.", may_have_happened=True), False),
        (KeyError("?"), False),
    ],
)
def test_a_compensation_that_was_refused_has_another_key(told: Protocol, error: Exception, is_other: bool) -> None:
    """Under its old one it would be refused again; where it may have happened another would do it a second time."""
    keys, errors = list[str](), iter([error])

    def undo(context: Context, given: Any, result: Any) -> None:
        keys.extend((context.idempotency_key, context.step_key))
        for problem in errors:
            raise problem

    @step(name="paid", compensate=undo, retries=0)
    def paid(context: Context) -> None: ...

    workflow("pays")(lambda context, given: [paid(context), told.step("no", fails=StepFailed("No."))(context)])
    run = finish(start("pays"))
    assert run.state == RunState.FAILED
    run = finish(retry(run))
    first, again = f"{run.pk}-1-undo", f"{run.pk}-1-undo-1" if is_other else f"{run.pk}-1-undo"
    assert (run.state, keys) == (RunState.REVERTED, [first, f"{run.pk}-1", again, f"{run.pk}-1"])


def test_another_worker_goes_on_from_what_is_stored(told: Protocol) -> None:
    """The first one dies in its second step."""
    is_dead: list[bool] = []

    @step(name="deadly")
    def deadly(context: Context) -> str:
        told.keys.append(context.idempotency_key)
        if not is_dead:
            is_dead.append(True)
            raise Overtaken  # as a worker that is killed: nothing is stored
        return "alive"

    one = told.step("one")
    workflow("resumed")(lambda context, given: [one(context), deadly(context)])
    run = start("resumed")
    with pytest.raises(Overtaken):
        carry_on(take(run), lambda: False)
    assert [row.name for row in stored(run).steps.all()] == ["one"]
    carry_on(take(run, after_death=True), lambda: False)
    run = stored(run)
    assert (run.state, result_of(run)) == (RunState.SUCCEEDED, [{"of": "one"}, "alive"])
    assert told.lines == ["one"]
    assert told.keys == [f"{run.pk}-1", f"{run.pk}-2", f"{run.pk}-2"]


def test_what_is_not_repeatable_is_not_done_twice(told: Protocol) -> None:
    @step(name="once", is_repeatable=False, compensate=lambda context, given, result: told.lines.append("undo"))
    def once(context: Context) -> None:
        told.lines.append("once")
        raise Overtaken

    workflow("careful")(lambda context, given: once(context))
    run = start("careful")
    with pytest.raises(Overtaken):
        carry_on(take(run), lambda: False)
    carry_on(take(run, after_death=True), lambda: False)
    run = stored(run)
    assert (run.state, run.error_code, told.lines) == (RunState.REVERTED, "STEP_IN_DOUBT", ["once", "undo"])


@pytest.mark.parametrize("ending", ["unknown", "raises", "input", "other", "ends", "cancelled"])
@pytest.mark.parametrize("has_died", [True, False])
@pytest.mark.parametrize("undo", [None, nothing_to_undo])
def test_what_may_have_been_done_is_told_however_the_run_ends(
    told: Protocol, ending: str, has_died: bool, undo: Any
) -> None:
    """The code has changed, so that the body does not come to the step that was begun: another run may do it again."""

    @step(name="text", is_repeatable=not has_died, compensate=undo)
    def text(context: Context) -> None:
        raise Overtaken if has_died else UpstreamServerError("?", upstream_status=502, may_have_happened=True)

    one, other = told.step("one"), told.step("other")
    ways: dict[str, Any] = {"raises": lambda context: 1 / 0, "other": other, "ends": lambda context: 0, "": text}
    way = [""]

    def body(context: Context, given: Any) -> Any:
        return [one(context), ways[way[0]](context)]

    made = workflow("changes", input=Numbers)(body)
    run = start("changes")
    with suppress(Overtaken):
        carry_on(take(run), lambda: False)
    if ending == "input":
        object.__setattr__(made, "input", create_model("Narrow", number=(Literal[5], 5)))
    elif ending in ("unknown", "cancelled"):
        cancel(run)
    if ending == "unknown":
        del definitions._workflows["changes"]
    way[0] = ending if ending in ways else ""
    run = finish(run)
    code = {"unknown": "WORKFLOW_CANCELLED", "cancelled": "WORKFLOW_CANCELLED"}.get(ending, run.error_code)
    code = {"other": "WORKFLOW_BROKEN", "ends": "WORKFLOW_BROKEN"}.get(ending, code)
    row = run.steps.get(position=2)
    assert (row.name, row.state, row.may_have_happened, run.error_code) == ("text", "failed", True, code)
    assert (told.lines[0], told.undone(), "other" in told.lines) == ("one", ["one"], False)
    is_known = undo is not None and ending == "cancelled"
    assert run.state == (RunState.CANCELLED if is_known else RunState.FAILED)
    if undo is None:
        with pytest.raises(NotUndone):
            retry(run)


def test_what_is_not_repeatable_is_tried_again_only_if_it_did_nothing(told: Protocol) -> None:
    timed_out = UpstreamServerError("Perhaps.", upstream_status=502, may_have_happened=True)
    sure = told.step("sure", fails=ConnectFailed("Nothing was sent."), retries=2, is_repeatable=False)
    unsure = told.step("unsure", fails=timed_out, retries=2, is_repeatable=False)
    workflow("sure", input=Numbers)(body_of(sure))
    workflow("unsure", input=Numbers)(body_of(unsure))
    finish(start("sure"))
    finish(start("unsure"))
    assert told.lines == ["sure"] * 3 + ["unsure", ("undo unsure", {"number": 1}, None)]


def test_an_earlier_attempt_that_may_have_happened_is_not_forgotten(told: Protocol) -> None:
    errors = iter([UpstreamServerError("Perhaps.", upstream_status=502, may_have_happened=True), StepFailed("No.")])

    @step(name="two-faced", compensate=lambda context, given, result: told.lines.append("undo"))
    def two_faced(context: Context) -> None:
        raise next(errors)

    workflow("remembers")(lambda context, given: two_faced(context))
    finish(start("remembers"))
    assert told.lines == ["undo"]


def test_a_step_in_which_workers_die_ends(told: Protocol) -> None:
    @step(name="poison")
    def poison(context: Context) -> None:
        told.lines.append("died")
        raise Overtaken

    workflow("poisonous")(lambda context, given: poison(context))
    run = start("poisonous")
    for _ in range(engine.MOST_DEATHS):
        with pytest.raises(Overtaken):
            carry_on(take(run, after_death=True), lambda: False)
    carry_on(take(run, after_death=True), lambda: False)
    run = stored(run)
    assert (run.state, run.error_code) == (RunState.FAILED, "STEP_ABANDONED"), "nothing undoes what may have happened"
    assert len(told.lines) == engine.MOST_DEATHS


def test_whoever_is_overtaken_stores_nothing(told: Protocol) -> None:
    """A worker that was only slow: another has taken its run up, and finishes it."""

    @step(name="slow")
    def slow(context: Context) -> int:
        told.lines.append("slow")
        if len(told.lines) == 1:
            carry_on(take(run, after_death=True), lambda: False)
        return len(told.lines)

    workflow("slow")(lambda context, given: slow(context))
    run = start("slow")
    with pytest.raises(Overtaken):
        carry_on(take(run), lambda: False)
    run = stored(run)
    assert (run.state, result_of(run), run.steps.count(), told.lines) == (RunState.SUCCEEDED, 2, 1, ["slow", "slow"])


def test_a_local_step_and_its_result_are_one(told: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    @step(name="local", is_local=True, compensate=lambda context, given, result: told.lines.append("undo"))
    def local(context: Context) -> str:
        return Tenant.objects.create(slug="local", name="Local").pk

    workflow("local")(lambda context, given: local(context))
    run = start("local")
    store = journal.Journal.store_step

    def die(*args: Any) -> bool:
        store(*args)
        raise DatabaseError("The connection is lost before the commit.")

    monkeypatch.setattr(journal.Journal, "store_step", die)
    with pytest.raises(engine.Unstored):
        carry_on(take(run), lambda: False)
    assert not Tenant.objects.exists()
    monkeypatch.undo()
    carry_on(take(run, after_death=True), lambda: False)
    assert (stored(run).state, Tenant.objects.count(), told.lines) == (RunState.SUCCEEDED, 1, [])


def test_a_local_step_that_fails_has_done_nothing(told: Protocol) -> None:
    @step(name="local", is_local=True, retries=0, compensate=lambda context, given, result: told.lines.append("undo"))
    def local(context: Context) -> None:
        Tenant.objects.create(slug="local", name="Local")
        raise ValueError

    workflow("local")(lambda context, given: local(context))
    assert finish(start("local")).state == RunState.REVERTED
    assert not Tenant.objects.exists()
    assert told.lines == []


def test_a_result_that_cannot_be_stored_waits_for_the_lease(told: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database goes away under a step: that is no failure of the step."""
    workflow("both", input=Numbers)(body_of(told.step("one")))
    run = start("both")

    def refuse(*args: Any) -> bool:
        raise DatabaseError

    monkeypatch.setattr(journal.Journal, "store_step", refuse)
    work()
    run = stored(run)
    assert (run.state, run.tries) == (RunState.OPEN, 0)
    assert run.due_at is not None
    assert run.due_at > timezone.now()
    monkeypatch.undo()
    run = finish(run)
    assert (run.state, told.lines, told.keys) == (RunState.SUCCEEDED, ["one", "one"], [f"{run.pk}-1"] * 2)


@pytest.mark.parametrize("is_local", [False, True])
def test_a_result_that_the_database_refuses_fails_the_step(
    told: Protocol, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    """That is no absence of the database: it would refuse it the next time too."""
    workflow("odd", input=Numbers)(body_of(told.step("one", is_local=is_local)))
    run = start("odd")

    def refuse(*args: Any) -> bool:
        raise DataError("value too long")

    monkeypatch.setattr(journal.Journal, "store_step", refuse)
    work()
    run = stored(run)
    assert (run.state, told.lines[0], told.undone()) == (RunState.REVERTED, "one", [] if is_local else ["one"])
    assert run.steps.get().error_message.startswith("DataError")


def test_a_body_that_fails_undoes_its_steps(told: Protocol) -> None:
    one = told.step("one")

    def body(context: Context, given: Any) -> None:
        one(context)
        raise RuntimeError("swordfish")

    workflow("broken")(body)
    run = finish(start("broken"))
    assert (run.state, run.error_code, told.undone()) == (RunState.REVERTED, "UNEXPECTED_ERROR", ["one"])
    assert run.error_message.startswith("RuntimeError in test_engine.py:")


def test_a_body_does_not_see_a_step_fail(told: Protocol) -> None:
    one = told.step("one", fails=StepFailed("No."))

    def body(context: Context, given: Any) -> str:
        try:
            one(context)
        except Exception:
            told.lines.append("caught")
        return "swallowed"

    workflow("swallows")(body)
    assert (finish(start("swallows")).state, told.lines) == (RunState.REVERTED, ["one"])


def test_code_that_has_changed_under_a_run_is_noticed(told: Protocol) -> None:
    @step(name="last")
    def last(context: Context) -> None:
        raise Overtaken

    one, two = told.step("one"), told.step("two")
    names = [one]
    workflow("changes")(lambda context, given: [names[0](context), last(context)])
    run = start("changes")
    with pytest.raises(Overtaken):
        carry_on(take(run), lambda: False)
    names[0] = two
    carry_on(take(run, after_death=True), lambda: False)
    run = stored(run)
    assert (run.state, run.error_code) == (RunState.REVERTED, "WORKFLOW_BROKEN")
    assert "was one and is two" in run.error_message
    assert told.undone() == ["one"]


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_what_is_no_json_is_no_result(told: Protocol, value: Any) -> None:
    one = told.step("one")

    @step(name="odd")
    def odd(context: Context) -> Any:
        told.lines.append("odd")
        return value

    workflow("odd")(lambda context, given: [one(context), odd(context)])
    run = finish(start("odd"))
    assert (run.state, told.undone()) == (RunState.FAILED, ["one"]), "odd was done, and nothing undoes it"
    assert run.error_message == "What the step odd returns or hands over is no JSON."
    assert told.lines.count("odd") == 1, "another attempt would have the effect again, and no other result"


def test_a_step_calls_no_step(told: Protocol) -> None:
    one = told.step("one")

    @step(name="outer", retries=0)
    def outer(context: Context) -> Any:
        return one(context)

    workflow("nested")(lambda context, given: outer(context))
    run = finish(start("nested"))
    assert (run.error_code, told.lines) == ("WORKFLOW_BROKEN", [])


def test_a_run_of_unknown_code_waits_for_a_worker_that_knows_it(told: Protocol) -> None:
    workflow("newer", input=Numbers)(body_of(told.step("one")))
    run = start("newer")
    known = definitions._workflows.pop("newer")
    work()
    run = stored(run)
    assert (run.state, run.error_code) == (RunState.OPEN, "NOT_FOUND")
    definitions._workflows["newer"] = known
    run = finish(run)
    assert (run.state, run.error_code) == (RunState.SUCCEEDED, "")
    with pytest.raises(NotFound):
        start("older")


def test_names_stand_for_one_thing() -> None:
    step(name="taken")(lambda context: None)
    with pytest.raises(ValueError, match="taken"):
        step(name="taken")(lambda context: None)


def test_a_step_costs_one_query(told: Protocol) -> None:
    """A claim, one for each step, one for the end; the steps' rows are read by those who take a run up again."""
    workflow("counted", input=Numbers)(body_of(told.step("one"), told.step("two"), told.step("three")))
    run = start("counted")
    claimed = take(run)
    with CaptureQueriesContext(connection) as queries:
        carry_on(claimed, lambda: False)
    assert len(queries) == 4


def test_a_sealed_input_of_a_shredded_tenant_ends_the_run(told: Protocol) -> None:
    from external_apis.shredding import shred
    from tests.factories import make_tenant

    tenant = make_tenant()
    workflow("lost", input=Numbers)(body_of(told.step("one")))
    run = start("lost", tenant=tenant.pk)
    with transaction.atomic():
        shred(tenant)
    run = finish(run)
    assert run.state == RunState.REVERTED
    assert told.lines == []
    assert all(row.undo != UndoState.FAILED for row in run.steps.all())


def test_what_is_not_repeatable_and_had_not_begun_is_done(told: Protocol) -> None:
    """Its worker dies between the claim and the step."""
    once = told.step("once", is_repeatable=False)
    workflow("careful", input=Numbers)(body_of(told.step("one"), once))
    run = start("careful")
    take(run)
    carry_on(take(run, after_death=True), lambda: bool(told.lines))  # handed back before it begins
    take(run, after_death=False)
    assert not stored(run).is_in_doubt
    run = finish(run)
    assert (run.state, told.lines) == (RunState.SUCCEEDED, ["one", "once"])


@pytest.mark.parametrize("odd", ["result", "handed over"])
def test_what_cannot_be_stored_fails_its_step(told: Protocol, odd: str) -> None:
    """It was done, so it is undone."""

    @step(name="odd", retries=0, compensate=lambda context, given, result: told.lines.append(("undo odd", {}, None)))
    def do(context: Context) -> Any:
        if odd == "result":
            return "\ud800"
        context.hand_over(token=b"bytes")  # type: ignore[arg-type]
        return None

    workflow("odd")(lambda context, given: do(context))
    run = finish(start("odd"))
    assert (run.state, told.undone()) == (RunState.REVERTED, ["odd"])
    assert run.steps.get().error_code == "UNEXPECTED_ERROR"


def test_an_errors_odd_text_is_stored_without_what_is_odd(told: Protocol) -> None:
    workflow("odd", input=Numbers)(body_of(told.step("one", fails=StepFailed("Not\0 so \ud800."))))
    assert finish(start("odd")).error_message == "Not so ?."


def test_a_body_does_not_swallow_that_its_code_has_changed(told: Protocol) -> None:
    @step(name="last")
    def last(context: Context) -> None:
        raise Overtaken

    names = [told.step("one"), told.step("two")]

    def body(context: Context, given: Any) -> None:
        try:
            names[0](context)
        except Exception:
            told.lines.append("caught")
        last(context)

    workflow("changes")(body)
    run = start("changes")
    with pytest.raises(Overtaken):
        carry_on(take(run), lambda: False)
    names.reverse()
    carry_on(take(run, after_death=True), lambda: False)
    assert (stored(run).error_code, told.undone()) == ("WORKFLOW_BROKEN", ["one"])
    assert "caught" not in told.lines


def test_nothing_is_done_after_a_failure(told: Protocol) -> None:
    """Neither by a ``finally`` of the body, nor where it catches whatever there is."""
    fails, after = told.step("fails", fails=StepFailed("No.")), told.step("after")

    @workflow("tidies-up")
    def tidies_up(context: Context, given: Any) -> str:
        try:
            fails(context)
        except BaseException:
            told.lines.append("caught")
        finally:
            after(context)
        return "swallowed"

    @workflow("returns-in-spite")
    def returns_in_spite(context: Context, given: Any) -> str:
        try:
            fails(context)
        except BaseException:
            told.lines.append("caught")
        return "swallowed"

    @workflow("fails-otherwise")
    def fails_otherwise(context: Context, given: Any) -> str:
        try:
            fails(context)
        except BaseException:
            told.lines.append("caught")
        raise ValueError("another")

    for name in ("tidies-up", "returns-in-spite", "fails-otherwise"):
        told.lines.clear()
        run = finish(start(name))
        assert (run.state, run.error_code, told.lines) == (RunState.REVERTED, "STEP_FAILED", ["fails", "caught"])


def test_whoever_asks_for_the_end_just_before_it_gets_it(told: Protocol) -> None:
    one = told.step("one")

    @workflow("nearly-done")
    def nearly_done(context: Context, given: Any) -> None:
        one(context)
        cancel(WorkflowRun.objects.get())

    assert (finish(start("nearly-done")).state, told.undone()) == (RunState.CANCELLED, ["one"])


def test_a_compensation_of_unknown_code_waits_for_a_worker_that_knows_it(
    told: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a new version is brought out; ten minutes later nobody does."""
    one, fails = told.step("one"), told.step("fails", fails=StepFailed("No."))
    workflow("renamed")(lambda context, given: [one(context), fails(context)])
    for is_known_again in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(reverting, "find_step", lambda name: fails if name == "fails" else None)
            run = start("renamed")
            work()
            assert (stored(run).state, stored(run).tries) == (RunState.REVERTING, 1)
            assert (stored(run).due_at or timezone.now()) > timezone.now() + timedelta(seconds=50)
            ended = None if is_known_again else finish(run)
        ended = ended or finish(run)
        assert ended.state == (RunState.REVERTED if is_known_again else RunState.FAILED)
    assert told.undone() == ["one"]
