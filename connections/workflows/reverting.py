"""Undoes what a run has done, the last step first; a compensation that fails does not stop the others."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from django.db import transaction

from connections.models import RunState, StepState, UndoState, WorkflowRun, WorkflowStep
from connections.workflows.absences import WAIT, Postponed, is_away, patiently
from connections.workflows.context import Context
from connections.workflows.definitions import Step, find_step
from connections.workflows.failures import describe, is_refused, may_pass, wait_seconds
from connections.workflows.journal import Journal
from external_apis.errors import StepAbandoned, VaultError, WorkflowBroken, WorkflowCancelled

__all__ = ["revert"]

logger = logging.getLogger(__name__)

# A worker with other code may know the step.
_UNKNOWN_WAIT_SECONDS, _UNKNOWN_TRIES = 60.0, 10


class _Uncompensated(Exception):
    """Tells an error of the compensation's own from one of the database that is to note it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def revert(journal: Journal, is_over: Callable[[], bool], *, most_deaths: int) -> None:
    """Run the compensations that are left and end the run, or hand it back between two of them once ``is_over``.

    A step that failed is undone too where it may have had an effect. Raises as `engine.carry_on`.
    """
    run = journal.run
    for row in sorted(journal.steps.values(), key=lambda row: -row.position):
        step = find_step(row.name)
        is_undone = row.undo or not (row.state == StepState.DONE or row.may_have_happened)
        if is_undone or (step is not None and step.compensate is None):
            continue
        if is_over():
            journal.hand_back()
            return
        if not _undo(journal, row, step, most_deaths):
            return
    if any(_is_left_behind(row) for row in journal.steps.values()):
        journal.end(RunState.FAILED)
    else:
        journal.end(RunState.CANCELLED if run.error_code == WorkflowCancelled.code else RunState.REVERTED)


def _is_left_behind(row: WorkflowStep) -> bool:
    """Whether a step could not be undone, or nobody knows what it did and nothing undoes it."""
    return row.undo == UndoState.FAILED or (row.may_have_happened and row.undo != UndoState.DONE)


def _undo(journal: Journal, row: WorkflowStep, step: Step | None, most_deaths: int) -> bool:
    """Compensate a step and note it; False where it is to be tried again later."""
    run = journal.run
    journal.begin(row.position, row.name)
    try:
        with transaction.atomic() if step is not None and step.is_local else nullcontext():
            _compensate(run, row, step, most_deaths)
            journal.note_undo(row, UndoState.DONE)
    except Postponed as postponed:
        logger.warning("workflow run %s waits: %s", run.pk, ": ".join(describe(postponed.error)))
        away = postponed.error
        patiently(lambda: journal.hand_back(WAIT, error=away, is_failure=False))
        return False
    except _Uncompensated as raised:
        error = raised.error
    else:
        return True
    logger.warning("workflow run %s: undoing %s: %s", run.pk, row.name, ": ".join(describe(error)))
    if run.tries >= _UNKNOWN_TRIES if step is None else not may_pass(error) or run.tries >= step.retries:
        journal.note_undo(row, UndoState.FAILED, ": ".join(describe(error)), is_refused=is_refused(error))
        return True
    seconds = wait_seconds(step, error, run.tries + 1, run.pk) if step is not None else _UNKNOWN_WAIT_SECONDS
    wait = timedelta(seconds=seconds)
    journal.hand_back(wait, error=error)
    WorkflowStep.objects.filter(pk=row.pk, undo=UndoState.NONE).update(undo_error=": ".join(describe(error)))
    return False


def _compensate(run: WorkflowRun, row: WorkflowStep, step: Step | None, most_deaths: int) -> None:
    if step is None or step.compensate is None:
        raise _Uncompensated(WorkflowBroken(f"There is no step {row.name} any more, nor its compensation."))
    if run.attempts > most_deaths:
        raise _Uncompensated(StepAbandoned(f"{run.attempts - 1} workers died in it."))
    try:
        contents = row.contents
        result = json.loads(contents["result"]) if "result" in contents else None
        step.compensate(Context.of_undo(run, row.position, row.undo_refusals), _given(row), result)
    except Exception as error:
        if isinstance(error, VaultError) and is_away(error):
            raise Postponed(error) from error
        raise _Uncompensated(error) from error


def _given(row: WorkflowStep) -> Any:
    if "input" not in row.contents:
        raise WorkflowBroken(f"{row.name} may have been done, and nobody knows any more what it was given.")
    return json.loads(row.contents["input"])
