"""Runs from outside: start, find, wait, cancel, retry, and what they came to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.apps import apps
from django.core.exceptions import AppRegistryNotReady
from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, When
from django.utils import timezone

from connections.models import RunState, StepState, UndoState, WorkflowRun
from connections.wakeups import wake
from connections.workflows.admission import admitted_input, digest_of, find_tenant, require_control
from connections.workflows.definitions import Workflow, find_workflow
from external_apis import audit, request_context
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import Conflict, IdempotencyKeyReused, InvalidInput, NotFound, NotUndone
from external_apis.ids import can_name
from external_apis.key_granting import OPERATOR, Granter
from external_apis.models import KeyMode
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "FINISHED",
    "RETRIABLE",
    "RunStatus",
    "cancel",
    "find",
    "input_of",
    "of_status",
    "result_of",
    "retry",
    "start",
    "start_scheduled_at",
    "status_of",
    "visible",
    "wait",
]

TASK = "connections.run_workflows"
FINISHED = frozenset((RunState.SUCCEEDED, RunState.REVERTED, RunState.CANCELLED, RunState.FAILED))
RETRIABLE = frozenset((RunState.FAILED, RunState.REVERTED, RunState.CANCELLED))
MAX_KEY_LENGTH = 255
_SCHEDULED = "schedule "
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.5


class RunStatus(StrEnum):
    """``pending`` has not begun, ``waiting`` is between two attempts of a step; the others are those of the row."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    REVERTING = "reverting"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    FAILED = "failed"


def start(
    name: str,
    input: Mapping[str, Any] | None = None,  # noqa: A002 (it is what a workflow calls it too)
    *,
    idempotency_key: str = "",
    tenant: str | None = None,
    granter: Granter = OPERATOR,
) -> WorkflowRun:
    """Store a run of a workflow, in the present transaction where there is one; a worker begins after the commit.

    The same ``idempotency_key`` of the same workflow, tenant and mode gives the run that there is. ``tenant`` is an
    id, the granter's own unless given; within it the granter is bound. Raises `NotFound` for an unknown workflow or
    tenant, `Conflict` for a deactivated one, `InvalidInput` with field paths, `Forbidden` for what the granter may not
    have done, `IdempotencyKeyReused` for a key that came with another input.
    """
    if not apps.ready:
        raise AppRegistryNotReady("A workflow is started by what runs, not by a module as it is imported.")
    definition = find_workflow(name)
    owner = find_tenant(tenant, granter.scope)
    given = admitted_input(definition, dict(input or {}), granter, owner)
    row = _new(name, given, owner, granter.scope)
    if len(idempotency_key) > MAX_KEY_LENGTH or not can_name(idempotency_key):
        raise InvalidInput.of("idempotency_key", f"is no text of up to {MAX_KEY_LENGTH} characters")
    if idempotency_key.startswith(_SCHEDULED):
        raise InvalidInput.of("idempotency_key", f"begins with {_SCHEDULED!r}, as those of schedules do")
    if idempotency_key:
        row.input = {"json": given, "given": digest_of(definition, dict(input or {}))}
    return _start(row, idempotency_key)


def start_scheduled_at(definition: Workflow, due: datetime) -> WorkflowRun:
    """Start the one run of a workflow for a time of its schedule, or return it. Raises as `start`."""
    key = f"{_SCHEDULED}{due.isoformat()}"
    if found := WorkflowRun.objects.filter(workflow=definition.name, tenant=None, mode="", idempotency_key=key).first():
        return found
    given = admitted_input(definition, dict(definition.scheduled_input), OPERATOR, None)
    return _start(_new(definition.name, given, None, EVERYTHING), key)


def visible(scope: Scope = EVERYTHING) -> QuerySet[WorkflowRun]:
    """Runs that somebody of this scope sees: of the own tenant and mode, newest first."""
    rows = scope.own(WorkflowRun.objects.all())
    if scope.is_sandbox is None:
        return rows
    return rows.filter(mode=KeyMode.TEST) if scope.is_sandbox else rows.exclude(mode=KeyMode.TEST)


def find(run_id: str, scope: Scope = EVERYTHING) -> WorkflowRun:
    """Return a run by its id. Raises `NotFound`."""
    run = visible(scope).filter(pk=run_id).first() if can_name(run_id) else None
    if run is None:
        raise NotFound(f"Workflow run {run_id if can_name(run_id) else ascii(run_id)} not found")
    return run


def wait(run_id: str, timeout_seconds: float = 60.0, scope: Scope = EVERYTHING) -> WorkflowRun:
    """Return a run once it has finished, or as it is after ``timeout_seconds``. Raises `NotFound`."""
    until, pause = time.monotonic() + timeout_seconds, _FIRST_PAUSE_SECONDS
    while True:
        run = find(run_id, scope)
        if run.state in FINISHED or time.monotonic() + pause > until:
            return run
        give_back_database_connections()
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def cancel(run: WorkflowRun, granter: Granter = OPERATOR) -> WorkflowRun:
    """End a run between two steps and undo what it has done; one that nobody works on at once.

    Raises `Conflict` for one that has finished or is being reverted, and `Forbidden` for whoever may not start its
    workflow: what it has done is undone by calls. Asked again, nothing changes.
    """
    require_control(run, granter)
    with transaction.atomic():
        row = WorkflowRun.objects.select_for_update().get(pk=run.pk)
        if row.state != RunState.OPEN:
            raise Conflict(f"The run is {status_of(row)}: there is nothing to cancel.")
        if row.cancel_requested_at is None:
            now = timezone.now()
            is_idle = Case(When(fence=F("handed_back"), then=now), default=F("due_at"))
            WorkflowRun.objects.filter(pk=row.pk).update(cancel_requested_at=now, due_at=is_idle)
            audit.record("workflow_run.cancel_requested", row, {"workflow": row.workflow})
            wake(TASK)
    row.refresh_from_db(fields=["cancel_requested_at", "due_at"])
    return row


def retry(run: WorkflowRun, granter: Granter = OPERATOR, *, confirm: bool = False) -> WorkflowRun:
    """Try again what a run has not come to, and return the run that does.

    Of a failed one the compensations that failed run once more, in the same run. Of any other that was not successful
    another run with the same input begins anew, and asked again, that one is returned. ``confirm`` says that it is to
    begin in spite of what is left of the first. Raises `Conflict` for a run that was not unsuccessful, `NotUndone`
    where something is left of it, and as `start`.
    """
    require_control(run, granter)
    if run.state not in RETRIABLE:
        raise Conflict(f"The run is {status_of(run)}: there is nothing to retry.")
    left = run.steps.filter(Q(state=StepState.DONE) | Q(may_have_happened=True)).exclude(undo=UndoState.DONE)
    if not confirm and run.state == RunState.FAILED and left.filter(undo=UndoState.FAILED).exists():
        return _revert_again(run)
    if not confirm and (names := list(left.values_list("name", flat=True))):
        raise NotUndone(
            f"{', '.join(names)} was done, or may have been, and is not undone: another run may do it a second time."
        )
    owner = find_tenant(run.tenant_id, granter.scope)
    given = admitted_input(find_workflow(run.workflow), input_of(run), granter, owner)
    row = _new(run.workflow, given, owner, granter.scope)
    row.mode, row.retry_of = run.mode, run
    return _store(row, WorkflowRun.objects.filter(retry_of=run))


def input_of(run: WorkflowRun) -> Any:
    """Return what a run was started with. Raises `VaultError`."""
    return json.loads(run.input["json"])


def result_of(run: WorkflowRun) -> Any:
    """Return what a run that succeeded came to, None for any other. Raises `VaultError`."""
    return json.loads(run.result["json"]) if run.state == RunState.SUCCEEDED else None


def status_of(run: WorkflowRun) -> RunStatus:
    """Return what there is to tell of a run."""
    if run.state != RunState.OPEN:
        return RunStatus(run.state)
    if run.fence == 0:
        return RunStatus.PENDING
    return RunStatus.WAITING if run.fence == run.handed_back else RunStatus.RUNNING


def of_status(rows: QuerySet[WorkflowRun], status: RunStatus) -> QuerySet[WorkflowRun]:
    """Those of the rows that `status_of` says this of."""
    is_handed_back = Q(fence=F("handed_back"))
    if status == RunStatus.PENDING:
        return rows.filter(state=RunState.OPEN, fence=0)
    if status == RunStatus.WAITING:
        return rows.filter(is_handed_back, state=RunState.OPEN, fence__gt=0)
    if status == RunStatus.RUNNING:
        return rows.filter(~is_handed_back, state=RunState.OPEN)
    return rows.filter(state=status.value)


# --- parts --------------------------------------------------------------------------------------------------------


def _new(name: str, given: str, tenant_id: str | None, scope: Scope) -> WorkflowRun:
    context = request_context.current()
    return WorkflowRun(
        workflow=name,
        tenant_id=tenant_id,
        mode="" if scope.is_sandbox is None else KeyMode.TEST if scope.is_sandbox else KeyMode.LIVE,
        input={"json": given},
        due_at=timezone.now(),
        request_id=context.request_id,
        started_by=context.actor,
    )


def _start(row: WorkflowRun, idempotency_key: str) -> WorkflowRun:
    row.idempotency_key = idempotency_key
    same = WorkflowRun.objects.filter(workflow=row.workflow, tenant=row.tenant_id, mode=row.mode)
    return _store(row, same.filter(idempotency_key=idempotency_key))


def _store(row: WorkflowRun, same: QuerySet[WorkflowRun]) -> WorkflowRun:
    """Insert a run with its event, unless there is the ``same`` one already; then return that."""
    with transaction.atomic():
        WorkflowRun.objects.bulk_create([row], ignore_conflicts=bool(row.idempotency_key or row.retry_of_id))
        stored = same.get() if row.idempotency_key or row.retry_of_id else row
        if stored.pk == row.pk:
            audit.record("workflow_run.started", row, {"workflow": row.workflow, "retry_of": row.retry_of_id})
            wake(TASK)
        elif row.idempotency_key and not _is_same(stored.input, row.input):
            raise IdempotencyKeyReused("The idempotency key came with another input before.")
    return stored


def _is_same(stored: Mapping[str, str], given: Mapping[str, str]) -> bool:
    """Whether two inputs are one: as they were given, or with their defaults. Those of schedules are not compared."""
    return stored.get("given") == given.get("given") or stored["json"] == given["json"]


def _revert_again(run: WorkflowRun) -> WorkflowRun:
    with transaction.atomic():
        row = WorkflowRun.objects.select_for_update().get(pk=run.pk)
        if row.state != RunState.FAILED:
            raise Conflict(f"The run is {status_of(row)}: there is nothing to retry.")
        row.steps.filter(undo=UndoState.FAILED).update(undo=UndoState.NONE, undo_error="", undone_at=None)
        row.state, row.due_at, row.finished_at, row.tries, row.attempts = RunState.REVERTING, timezone.now(), None, 0, 0
        row.save(update_fields=["state", "due_at", "finished_at", "tries", "attempts"])
        audit.record("workflow_run.retried", row, {"workflow": row.workflow, "state": [RunState.FAILED, row.state]})
        wake(TASK)
    return row
