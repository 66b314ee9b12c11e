"""Carries one claimed run on: what is stored is taken as it is, what is not is done and stored; a failure is undone.

A worker may die anywhere in here. Whoever takes the run up afterwards reads the rows, repeats the step that was under
way under the same idempotency key, and goes on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, DataError, transaction
from django.utils import timezone

from connections.models import RunState, WorkflowRun, WorkflowStep
from connections.workflows.absences import WAIT, Postponed, is_away, patiently
from connections.workflows.context import Context, NoJson
from connections.workflows.definitions import Step, Workflow, find_step, find_workflow
from connections.workflows.failures import describe, may_have_happened, may_pass, wait_seconds
from connections.workflows.journal import Attempt, Journal, dump
from connections.workflows.reverting import revert
from external_apis.errors import (
    Conflict,
    NotFound,
    StepAbandoned,
    StepInDoubt,
    VaultError,
    WorkflowBroken,
    WorkflowCancelled,
)
from external_apis.models import Tenant

__all__ = ["MOST_DEATHS", "Unstored", "carry_on"]

logger = logging.getLogger(__name__)

MOST_DEATHS = 5
"""So many workers may die in one step before it counts as failed."""
_UNKNOWN_WAIT, _INACTIVE_WAIT = timedelta(seconds=60), timedelta(minutes=5)


class Unstored(BaseException):
    """A step was done and its result cannot be stored. Not for a body to catch."""


class _Ended(BaseException):
    """Leaves the body, past whatever it catches; with the step that is the reason, if one is."""

    def __init__(
        self,
        error: Exception,
        attempt: Attempt | None = None,
        *,
        may_have_happened: bool = False,
        is_final: bool = True,
    ) -> None:
        super().__init__()
        self.error, self.attempt, self.is_final = error, attempt, is_final
        self.may_have_happened = may_have_happened


class _HandedBack(BaseException):
    """Leaves the body because the worker is to stop."""

    def __init__(self, *, is_in_doubt: bool) -> None:
        super().__init__()
        self.is_in_doubt = is_in_doubt


class _StepRaised(Exception):
    """Tells an error of the step's own from one of the database that its result was to be stored in."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def carry_on(run: WorkflowRun, is_over: Callable[[], bool]) -> None:
    """Do what is left of a run, or hand it back between two steps once ``is_over``.

    Raises `Overtaken` where the claim was lost, `Unstored` and Django's database errors: then its lease runs out, and
    whoever takes it goes on from what is stored.
    """
    journal = Journal(run)
    if run.tenant_id is not None and not patiently(Tenant.objects.filter(pk=run.tenant_id, is_active=True).exists):
        problem = Conflict("The tenant is deactivated: its runs wait.")
        journal.hand_back(_INACTIVE_WAIT, error=problem, is_in_doubt=_is_in_doubt(run), is_failure=False)
        return
    if run.state == RunState.OPEN:
        _advance(journal, is_over)
    if run.state == RunState.REVERTING:
        revert(journal, is_over, most_deaths=MOST_DEATHS)


def _advance(journal: Journal, is_over: Callable[[], bool]) -> None:
    """Run the body, and store how it ended; then there may be something to revert."""
    run = journal.run
    try:
        definition = find_workflow(run.workflow)
    except NotFound as error:
        _wait_for_code(journal, error)
        return
    steps = _Steps(journal, is_over)
    try:
        result = _run_body(definition, steps)
    except _HandedBack as handed:
        journal.hand_back(is_in_doubt=handed.is_in_doubt)
    except Postponed as postponed:
        _postpone(journal, postponed)
    except _Ended as end:
        _fail(journal, end)
    else:
        if not journal.succeed(result):
            _begin_reverting(journal, _cancellation())


def _run_body(definition: Workflow, steps: _Steps) -> str:
    run = steps.journal.run
    context = Context.of(run, perform=steps.perform)
    try:
        result = definition.body(context, definition.read(json.loads(run.input["json"])))
        steps.check_end()
        return _dumped(result, f"the workflow {definition.name}")
    except Exception as error:  # whatever a body raises, its steps are undone
        steps.leave_again()
        if is_away(error):
            raise Postponed(error, may_have_happened=_is_in_doubt(run)) from error
        raise _Ended(error) from error


def _wait_for_code(journal: Journal, error: Exception) -> None:
    """A worker with other code may know the workflow, unless somebody has had enough."""
    if journal.run.cancel_requested_at is None:
        journal.hand_back(_UNKNOWN_WAIT, error=error, is_in_doubt=_is_in_doubt(journal.run))
    else:
        _begin_reverting(journal, _cancellation())


def _postpone(journal: Journal, postponed: Postponed) -> None:
    """What is away comes back; a run that has nothing under way and is to end does not wait for it."""
    run, error = journal.run, postponed.error
    logger.warning("workflow run %s waits: %s", run.pk, ": ".join(describe(error)))
    is_in_doubt = postponed.may_have_happened
    if run.cancel_requested_at is None or is_in_doubt:
        patiently(lambda: journal.hand_back(WAIT, error=error, is_in_doubt=is_in_doubt, is_failure=False))
    else:
        patiently(lambda: _begin_reverting(journal, _cancellation()))


def _fail(journal: Journal, end: _Ended) -> None:
    run, error = journal.run, end.error
    logger.warning("workflow run %s: %s", run.pk, ": ".join(describe(error)))
    if end.attempt is None:
        _begin_reverting(journal, error)
    elif end.is_final:
        journal.begin_reverting(error, end.attempt, may_have_happened=end.may_have_happened)
    else:
        wait = timedelta(seconds=wait_seconds(end.attempt.step, error, run.tries + 1, run.pk))
        journal.hand_back(wait, error=error, is_in_doubt=end.may_have_happened)


def _begin_reverting(journal: Journal, error: Exception) -> None:
    """End a run for another reason than an attempt; the step that was begun before is not forgotten."""
    journal.begin_reverting(error, None, may_have_happened=bool(_begun(journal)))


def _is_in_doubt(run: WorkflowRun, step: Step | None = None) -> bool:
    """Whether the step under way may have been begun: by a worker that died, or in an attempt that failed.

    What is local has left nothing; of what is not repeatable its beginning is noted.
    """
    if step is not None and (step.is_local or not step.is_repeatable):
        return run.is_in_doubt and not step.is_local
    return run.is_in_doubt or run.fence - run.handed_back > 1


def _begun(journal: Journal) -> str:
    """Return the name of the step that may have been begun before, where that was stored."""
    run = journal.run
    is_stale = run.step_position in journal.steps
    return run.step_name if not is_stale and _is_in_doubt(run, find_step(run.step_name)) else ""


class _Steps:
    """The steps of a run as its body calls them."""

    def __init__(self, journal: Journal, is_over: Callable[[], bool]) -> None:
        self.journal, self._is_over = journal, is_over
        self._position = 0
        self._is_cancelled = journal.run.cancel_requested_at is not None
        self._left_by: BaseException | None = None

    def perform(self, step: Step, given: Mapping[str, Any]) -> Any:
        """Return the stored result of the next step, or do it and store what comes of it.

        Whatever has left the body does so again from a ``finally`` in it.
        """
        self.leave_again()
        try:
            return self._perform(step, given)
        except BaseException as reason:
            if not isinstance(reason, Exception):
                self._left_by = reason
            raise

    def leave_again(self) -> None:
        """Raise what the body was to be left by, whatever it has made of that."""
        if self._left_by is not None:
            raise self._left_by

    def _perform(self, step: Step, given: Mapping[str, Any]) -> Any:
        self._position += 1
        stored = self.journal.steps.get(self._position)
        if stored is None:
            return self._do(step, given)
        if stored.name != step.name:
            problem = f"Step {self._position} was {stored.name} and is {step.name} now: the code has changed."
            raise _Ended(WorkflowBroken(problem))
        return json.loads(self._contents(stored)["result"])

    def _contents(self, row: WorkflowStep) -> Mapping[str, str]:
        try:
            found: Mapping[str, str] = row.contents
        except VaultError as error:
            if is_away(error):
                raise Postponed(error, may_have_happened=_is_in_doubt(self.journal.run)) from error
            raise
        return found

    def check_end(self) -> None:
        """Raise where the body was to be left, has ended too soon, or somebody has asked for the end meanwhile."""
        self.leave_again()
        if any(position > self._position for position in self.journal.steps):
            raise WorkflowBroken(f"The body ends after {self._position} steps and had more: the code has changed.")
        if (begun := _begun(self.journal)) and self._position < self.journal.run.step_position:
            raise WorkflowBroken(f"The body ends before {begun}, which was begun: the code has changed.")
        if self._is_cancelled:
            raise _Ended(_cancellation())

    def _do(self, step: Step, given: Mapping[str, Any]) -> Any:
        attempt = Attempt(step, self._position, dump(given), timezone.now())
        is_in_doubt = _is_in_doubt(self.journal.run, step)
        if (begun := _begun(self.journal)) and begun != step.name:
            problem = f"Step {self._position} was {begun} and is {step.name} now: the code has changed."
            raise _Ended(WorkflowBroken(problem))
        self._check_beginning(attempt, is_in_doubt)
        self.journal.begin(attempt.position, step.name)
        if not step.is_repeatable and not step.is_local:
            self.journal.note_beginning()
        try:
            # What is local is there together with its result, or not at all.
            with transaction.atomic() if step.is_local else nullcontext():
                context = Context.of(self.journal.run, f"{self._position}")
                result = _call(step, context, given)
                if step.is_local:
                    self._is_cancelled = self.journal.store_step(attempt, result, context.left)
            if not step.is_local:
                self._is_cancelled = patiently(lambda: self.journal.store_step(attempt, result, context.left))
        except _StepRaised as raised:
            raise self._judge(attempt, raised.error, is_in_doubt) from raised.error
        except Postponed as postponed:
            may = is_in_doubt or (postponed.may_have_happened and not step.is_local)
            raise Postponed(postponed.error, may_have_happened=may) from postponed.error
        except DataError as error:  # another attempt would be as much too long, or whatever it is
            raise _Ended(error, attempt, may_have_happened=not step.is_local) from error
        except (DatabaseError, VaultError) as error:
            raise Unstored from error
        return json.loads(result)

    def _check_beginning(self, attempt: Attempt, is_in_doubt: bool) -> None:
        """Leave the body where the step is not to be done (again)."""
        run, step = self.journal.run, attempt.step
        if self._is_cancelled:
            raise _Ended(_cancellation(), attempt if is_in_doubt else None, may_have_happened=is_in_doubt)
        if self._is_over():
            raise _HandedBack(is_in_doubt=is_in_doubt)
        if is_in_doubt and not step.is_repeatable:
            problem = "It may have been done before, and is not to be done twice."
            raise _Ended(StepInDoubt(problem), attempt, may_have_happened=True)
        if run.attempts > MOST_DEATHS:
            problem = f"{run.attempts - 1} workers died in it."
            raise _Ended(StepAbandoned(problem), attempt, may_have_happened=is_in_doubt)

    def _judge(self, attempt: Attempt, error: Exception, is_in_doubt: bool) -> _Ended:
        step = attempt.step
        may = not step.is_local and (is_in_doubt or may_have_happened(error))
        is_again = may_pass(error) and self.journal.run.tries < step.retries and (step.is_repeatable or not may)
        return _Ended(error, attempt, may_have_happened=may, is_final=not is_again)


def _call(step: Step, context: Context, given: Mapping[str, Any]) -> str:
    try:
        result = _dumped(step.function(context, **given), f"the step {step.name}")
        _dumped(context.left, f"the step {step.name}")
    except Exception as error:
        raise _StepRaised(error) from error
    return result


def _dumped(value: Any, whose: str) -> str:
    try:
        return dump(value)
    except (TypeError, ValueError, RecursionError):
        raise NoJson(f"What {whose} returns or hands over is no JSON.") from None


def _cancellation() -> WorkflowCancelled:
    return WorkflowCancelled("The run was cancelled.")
