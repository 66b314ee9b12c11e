"""Workflows (seed 003): steps in order, each result stored, and undone in reverse when one fails.

    @step(compensate=refund)
    def charge(context, *, amount):
        ...

    @workflow("order", input=Order)
    def order(context, given):
        return charge(context, amount=given.amount)

and, in what runs, no module of definitions: ``start("order", {"amount": 100}, idempotency_key=order_id)``.

Celery carries runs, rows are the truth: see ``docs/workflows.md``.
"""

from __future__ import annotations

from connections.workflows.context import Context
from connections.workflows.definitions import NoInput, nothing_to_undo, step, workflow, workflows
from connections.workflows.handing_over import take_over
from connections.workflows.runs import (
    RunStatus,
    cancel,
    find,
    input_of,
    result_of,
    retry,
    start,
    status_of,
    wait,
)

__all__ = [
    "Context",
    "NoInput",
    "RunStatus",
    "cancel",
    "find",
    "input_of",
    "nothing_to_undo",
    "result_of",
    "retry",
    "start",
    "status_of",
    "step",
    "take_over",
    "wait",
    "workflow",
    "workflows",
]
