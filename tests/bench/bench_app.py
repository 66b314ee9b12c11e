"""The product's Celery application with the tasks and the workflow of the bench."""

from __future__ import annotations

from typing import Any

from config.celery import app

app.loader.import_default_modules()

from connections.workflows import Context, step, workflow  # noqa: E402
from tests.bench import chained_tasks  # noqa: E402

__all__ = ["app", "chained_tasks"]


@step(name="bench-one")
def first(context: Context) -> None:
    pass


@step(name="bench-two")
def second(context: Context) -> None:
    pass


@step(name="bench-three")
def third(context: Context) -> None:
    pass


@workflow(chained_tasks.WORKFLOW)
def three_steps(context: Context, given: Any) -> None:
    """Three steps that do nothing."""
    first(context)
    second(context)
    third(context)
