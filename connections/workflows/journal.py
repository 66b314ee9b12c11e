"""What a run has done, in its rows: each change is stored only while the claim that makes it still stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from connections.due_work import settle
from connections.models import RunState, StepState, UndoState, WorkflowRun, WorkflowStep
from connections.workflows.absences import patiently
from connections.workflows.definitions import Step
from connections.workflows.failures import describe
from external_apis import audit
from external_apis.errors import VaultError
from external_apis.fields import SecretsField

__all__ = ["Attempt", "Journal", "Overtaken", "dump", "extend", "sealed_field"]


class Overtaken(BaseException):
    """Another worker has the run: whoever notices stores nothing and goes. Not for a body or a step to catch."""


def dump(value: Any) -> str:
    """Return JSON. Raises `TypeError` and `ValueError` for what is none, or no text."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()  # half a character is none
    return text


def sealed_field(model: type[WorkflowRun | WorkflowStep], name: str) -> SecretsField:
    """Return a sealed column of the two models."""
    found = model._meta.get_field(name)
    assert isinstance(found, SecretsField)  # noqa: S101 (tells the type checker)
    return found


_CONTENTS = sealed_field(WorkflowStep, "contents")
_RUNS, _STEPS = WorkflowRun._meta.db_table, WorkflowStep._meta.db_table
# One statement: the run's row is held while the step's is written, so that no other claim comes between.
_STORE = f"""
WITH held AS (
    UPDATE {_RUNS} SET attempts = 1, tries = 0, is_in_doubt = FALSE, hands_over = hands_over OR %s
    WHERE id = %s AND fence = %s RETURNING id, tenant_id, cancel_requested_at
), stored AS (
    INSERT INTO {_STEPS} (id, run_id, tenant_id, position, name, state, contents, tries, may_have_happened, error_code,
        error_message, started_at, finished_at, undo, undo_error, undo_refusals)
    SELECT %s, id, tenant_id, %s, %s, 'done', %s, %s, FALSE, '', '', %s, %s, '', '', 0 FROM held
)
SELECT cancel_requested_at IS NOT NULL FROM held
"""  # noqa: S608 (names of our own tables)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A step that is being done; ``given`` is JSON."""

    step: Step
    position: int
    given: str
    began_at: datetime


class Journal:
    """The rows of one claimed run. Every method that stores raises `Overtaken` where the claim was lost."""

    def __init__(self, run: WorkflowRun) -> None:
        self.run = run
        # Nobody has stored anything before the first claim.
        self.steps = patiently(self._read) if run.fence > 1 else {}

    def store_step(self, attempt: Attempt, result: str, left: Mapping[str, str]) -> bool:
        """Store a step that is done; its ``result`` is JSON. Tell whether the run is to be cancelled."""
        run = self.run
        row = WorkflowStep(tenant_id=run.tenant_id)
        contents = {"input": attempt.given, "result": result}
        if left:
            contents["once"] = dump(left)
        values: list[Any] = [bool(left), run.pk, run.fence, row.pk, attempt.position, attempt.step.name]
        values += [bytes(_CONTENTS.seal(row, contents)), run.tries, attempt.began_at, timezone.now()]
        with connection.cursor() as cursor:
            cursor.execute(_STORE, values)
            found = cursor.fetchone()
        if found is None:
            raise Overtaken
        run.tries, run.attempts, run.is_in_doubt = 0, 1, False
        # Whoever died before had to do with the steps until now.
        run.handed_back = run.fence - 1
        return bool(found[0])

    def begin(self, position: int, name: str) -> None:
        """Remember which step is being done, or undone; it is stored with whatever is stored next of the run."""
        run = self.run
        run.step_position, run.step_name, run.step_began_at = position, name, timezone.now()

    def note_beginning(self) -> None:
        """Note before a step that is not repeatable that from now on it may have been done."""
        patiently(lambda: self._settle(is_in_doubt=True, **self._current()))

    def hand_back(
        self,
        wait: timedelta = timedelta(0),
        *,
        is_in_doubt: bool = False,
        error: Exception | None = None,
        is_failure: bool = True,
    ) -> None:
        """Leave the run to whoever takes it after that; with an error that is a failure the attempt counts as one."""
        run = self.run
        columns: dict[str, Any] = {
            "due_at": Now() + wait,
            "handed_back": run.fence,
            "attempts": 0,
            "is_in_doubt": is_in_doubt,
            **self._current(),
        }
        if error is not None:
            columns["tries"] = run.tries + is_failure
            if run.state == RunState.OPEN:  # of a reverting one it tells why
                columns["error_code"], columns["error_message"] = describe(error)
        self._settle(**columns)
        if run.state == RunState.OPEN and run.cancel_requested_at is None:
            # Whoever asked for the end while it was under way is not to wait.
            rows = WorkflowRun.objects.filter(pk=run.pk, fence=run.fence, cancel_requested_at__isnull=False)
            rows.filter(due_at__gt=Now()).update(due_at=Now())

    def begin_reverting(self, error: Exception, attempt: Attempt | None, *, may_have_happened: bool) -> None:
        """Note why the run ends and, where one failed, at which step.

        Without an attempt ``may_have_happened`` is of the step that was begun before: the body did not come to it.
        """
        code, message = describe(error)
        failed = self._failed(attempt) if attempt is not None or may_have_happened else None
        self.run.step_name = ""
        columns = {"state": RunState.REVERTING, "attempts": 1, "error_code": code, "error_message": message}
        with transaction.atomic():
            self._settle(tries=0, is_in_doubt=False, step_name="", **columns)
            if failed is not None:
                WorkflowStep.objects.create(
                    run=self.run,
                    tenant_id=self.run.tenant_id,
                    **failed,
                    state=StepState.FAILED,
                    tries=self.run.tries + 1,
                    may_have_happened=may_have_happened,
                    error_code=code,
                    error_message=message,
                    finished_at=timezone.now(),
                )
        self.steps = self._read()
        self.run.state, self.run.error_code = RunState.REVERTING, code
        self.run.tries, self.run.attempts = 0, 1

    def note_undo(self, row: WorkflowStep, state: UndoState, error: str = "", *, is_refused: bool = False) -> None:
        """Store what became of a step's compensation."""
        with transaction.atomic():
            self._settle(tries=0, attempts=1)
            row.undo, row.undo_error, row.undone_at = state, error, timezone.now()
            row.undo_refusals += is_refused
            row.save(update_fields=["undo", "undo_error", "undone_at", "undo_refusals"])
        self.run.tries, self.run.attempts = 0, 1

    def succeed(self, result: str) -> bool:
        """End the run with its result, which is JSON; False where somebody has asked for its end before."""
        sealed = sealed_field(WorkflowRun, "result").seal(self.run, {"json": result})
        mine = WorkflowRun.objects.filter(pk=self.run.pk, fence=self.run.fence)
        is_done = mine.filter(cancel_requested_at__isnull=True).update(
            state=RunState.SUCCEEDED,
            due_at=None,
            finished_at=timezone.now(),
            result=sealed,
            handed_back=self.run.fence,
            error_code="",
            error_message="",
        )
        if not is_done and not mine.exists():
            raise Overtaken
        return bool(is_done)

    def end(self, state: RunState) -> None:
        """End a run that did not succeed, with its event; nothing of what it left is taken any more."""
        before, self.run.state = self.run.state, state
        with transaction.atomic():
            self._settle(
                state=state, due_at=None, finished_at=timezone.now(), handed_back=self.run.fence, hands_over=False
            )
            facts = {"workflow": self.run.workflow, "state": [before, state], "error_code": self.run.error_code}
            audit.record(f"workflow_run.{state}", self.run, facts)
            self._forget_left()

    def _forget_left(self) -> None:
        for row in self.steps.values():
            with suppress(VaultError):  # nobody opens it
                if "once" in row.contents:
                    row.contents = {name: value for name, value in row.contents.items() if name != "once"}
                    row.save(update_fields=["contents"])

    def _read(self) -> dict[int, WorkflowStep]:
        return {row.position: row for row in self.run.steps.all()}

    def _current(self) -> dict[str, Any]:
        return {name: getattr(self.run, name) for name in ("step_position", "step_name", "step_began_at")}

    def _failed(self, attempt: Attempt | None) -> dict[str, Any]:
        if attempt is not None:
            contents = {"input": attempt.given}
            named = {"position": attempt.position, "name": attempt.step.name, "started_at": attempt.began_at}
        else:
            run, contents = self.run, {}  # nobody knows any more what it was given
            named = {"position": run.step_position, "name": run.step_name, "started_at": run.step_began_at}
        return {**named, "contents": contents}

    def _settle(self, **columns: Any) -> None:
        if not settle(self.run, **columns):
            raise Overtaken


def extend(runs: Sequence[WorkflowRun], lease: timedelta) -> None:
    """Move the ends of leases on, of the runs under way as they were claimed, and store which step each has come to."""
    statement = f"""
UPDATE {_RUNS} AS run SET due_at = clock_timestamp() + make_interval(secs => %s),
    step_position = mine.step_position, step_name = mine.step_name, step_began_at = mine.step_began_at
FROM unnest(%s::text[], %s::bigint[], %s::integer[], %s::text[], %s::timestamptz[])
    AS mine (id, fence, step_position, step_name, step_began_at)
WHERE run.id = mine.id AND run.fence = mine.fence AND run.handed_back <> run.fence
"""  # noqa: S608
    with connection.cursor() as cursor:
        names = ("pk", "fence", "step_position", "step_name", "step_began_at")
        cursor.execute(statement, [lease.total_seconds(), *([getattr(run, name) for run in runs] for name in names)])
