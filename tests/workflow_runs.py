"""Runs of workflows carried on in the test's own thread and transaction, as a worker's threads do."""

from __future__ import annotations

from contextvars import copy_context

from django.db import connection
from django.utils import timezone

from connections.due_work import claim
from connections.models import RunState, StepState, WorkflowRun
from connections.workflows import running, start
from external_apis.models import Tenant

__all__ = ["SMS", "finish", "make_failed_run", "make_run", "stored", "sweep_and_leave", "work"]

SMS = {"twilio_connection_id": "twilio/default", "to_number": "+4915112345678", "message": "Hello"}
"""An input of ``send-sms``."""


def make_run(tenant: Tenant | None = None, **columns: object) -> WorkflowRun:
    """A run of ``send-sms`` that nobody has carried on; ``columns`` are set past everything."""
    run = start("send-sms", SMS, tenant=None if tenant is None else tenant.pk)
    WorkflowRun.objects.filter(pk=run.pk).update(**columns or {"tries": 0})
    return stored(run)


def make_failed_run(**columns: object) -> WorkflowRun:
    """One whose text message may have been sent, which nothing undoes; ``columns`` are of its step."""
    run, now = make_run(state=RunState.FAILED, due_at=None, finished_at=timezone.now()), timezone.now()
    facts = {"state": StepState.FAILED, "may_have_happened": True, "started_at": now, "finished_at": now}
    run.steps.create(position=1, name="send-twilio-message", **facts | columns)
    return run


def work() -> int:
    """Carry on what is due; return how many claims that took."""
    count = 0
    while runs := claim(WorkflowRun, 8, running.LEASE):
        count += len(runs)
        for run in runs:
            # As in a thread of its own: whoever acts here does not act there.
            copy_context().run(running._carry_on, run, lambda: False)
    return count


def stored(run: WorkflowRun) -> WorkflowRun:
    return WorkflowRun.objects.get(pk=run.pk)


def sweep_and_leave() -> None:
    """Sweep as a thread that gives its connection to the database back."""
    running.sweep()
    connection.close()


def finish(run: WorkflowRun) -> WorkflowRun:
    """Carry a run on until it has finished, whatever it waits for."""
    for _ in range(20):
        found = stored(run)
        if found.finished_at:
            return found
        WorkflowRun.objects.filter(pk=run.pk).update(due_at=timezone.now())
        work()
    raise AssertionError("the run does not end")
