"""What the steps of a run leave for whoever started it: taken once, or wiped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from connections.models import RunState, WorkflowRun, WorkflowStep
from connections.workflows.absences import is_away
from connections.workflows.journal import sealed_field
from connections.workflows.runs import FINISHED, status_of
from external_apis import audit, request_context
from external_apis.errors import Conflict, Forbidden, NothingToTake, VaultError

__all__ = ["forget_left", "take_over"]

_CONTENTS = sealed_field(WorkflowStep, "contents")
_ONCE = "once"
_WIPE = f"""
UPDATE {WorkflowStep._meta.db_table} AS step SET contents = wiped.contents
FROM unnest(%s::text[], %s::bytea[]) AS wiped (id, contents) WHERE step.id = wiped.id
"""  # noqa: S608 (our own table's name)


def take_over(run: WorkflowRun) -> dict[str, str]:
    """Return what the steps of a run that succeeded handed over, and forget it.

    A name that an earlier step used too has the step's position behind it: ``token-3``. Only whoever started the run
    gets it. Raises `Forbidden` for anybody else, `Conflict` before the run has finished, `NothingToTake` where there
    was nothing, or it was taken.
    """
    if run.started_by != request_context.current().actor:
        raise Forbidden("What a run hands over is for whoever started it.")
    if run.state not in FINISHED:
        raise Conflict(f"The run is {status_of(run)}: what it hands over is there once it has succeeded.")
    taken: dict[str, str] = {}
    with transaction.atomic():
        row = WorkflowRun.objects.select_for_update().get(pk=run.pk)
        if not row.hands_over or row.state != RunState.SUCCEEDED:
            raise NothingToTake("The run hands over nothing, or somebody has taken it, or it waited too long.")
        for step in row.steps.all():
            for name, value in json.loads(step.contents.get(_ONCE, "{}")).items():
                taken[f"{name}-{step.position}" if name in taken else name] = value
        forget_left([row.pk])
        audit.record("workflow_run.taken_over", row, {"read": sorted(taken)})
    return taken


def forget_left(run_ids: Sequence[str]) -> None:
    """Wipe what runs hand over, taken or not; where the key of a step is away for a moment its run keeps everything."""
    with transaction.atomic():
        rows = WorkflowRun.objects.select_for_update().filter(pk__in=run_ids, hands_over=True).order_by("pk")
        ids = set(rows.values_list("pk", flat=True))
        kept, wiped = set(), dict[str, Any]()
        for step in WorkflowStep.objects.filter(run_id__in=ids).order_by():
            try:
                contents = {name: value for name, value in step.contents.items() if name != _ONCE}
                if _ONCE in step.contents:
                    wiped[step.pk] = step.run_id, bytes(_CONTENTS.seal(step, contents))
            except VaultError as error:  # what does not open is not taken either
                if is_away(error):
                    kept.add(step.run_id)
        done = {step_id: sealed for step_id, (run_id, sealed) in wiped.items() if run_id not in kept}
        if done:
            with connection.cursor() as cursor:
                cursor.execute(_WIPE, [list(done), list(done.values())])
        WorkflowRun.objects.filter(pk__in=ids - kept).update(hands_over=False)
