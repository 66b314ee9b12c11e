"""What is wrong with a step or a workflow is told where it is written, and what it is given is kept as it was given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery.schedules import crontab
from celery.schedules import schedule as celery_schedule
from django.apps import apps
from django.core.exceptions import AppRegistryNotReady
from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field

from connections.models import RunState, WorkflowRun
from connections.webhooks import on_webhook
from connections.webhooks.inbound import handlers
from connections.workflows import Context, input_of, result_of, start, step, workflow
from external_apis.errors import InvalidInput
from tests.workflow_runs import finish

LONG = "n" * 101


def no_arguments() -> None: ...
def context_alone(context: Context) -> None: ...
def too_many(context: Context, given: Any, result: Any, more: Any) -> None: ...
def by_place(context: Context, amount: int, /) -> None: ...


class Secretive(BaseModel):
    password: SecretStr


class Unshowable(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    anything: Callable[[], None]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: step()(no_arguments), "no_arguments.*context"),
        (lambda: step()(by_place), "by_place.*amount"),
        (lambda: step(compensate=context_alone)(context_alone), "context_alone.*context, given, result"),  # type: ignore[arg-type]
        (lambda: step(compensate=too_many)(context_alone), "too_many.*context, given, result"),  # type: ignore[arg-type]
        (lambda: step(name=LONG)(context_alone), "100 characters"),
        (lambda: workflow(LONG)(lambda context, given: None), "100 characters"),
        (lambda: workflow("")(lambda context, given: None), "100 characters"),
        (lambda: workflow("a\0")(lambda context, given: None), "100 characters"),
        (lambda: step(name="\ud800")(context_alone), "100 characters"),
        (lambda: step(name=5)(context_alone), "100 characters"),  # type: ignore[arg-type]
        (lambda: workflow("odd")(context_alone), r"context_alone.*context, given"),  # type: ignore[arg-type]
        (lambda: workflow("odd", needs="prox")(lambda context, given: None), "scope 'prox'"),
        (lambda: workflow("odd", input=Secretive)(lambda context, given: None), "odd.*SecretStr"),
        (lambda: workflow("odd", input=Unshowable)(lambda context, given: None), "odd.*JSON Schema"),
        (lambda: on_webhook("stripe")(no_arguments), "no_arguments.*event"),  # type: ignore[type-var]
    ],
)
def test_what_is_wrong_is_told_where_it_is_written(
    make: Callable[[], object], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_handlers", [])
    with pytest.raises(ValueError, match=problem):
        make()


@pytest.mark.parametrize("odd", ["0 3 * * *", 3600, celery_schedule(3600), crontab, object()])
def test_what_is_no_schedule_is_refused(odd: Any) -> None:
    with pytest.raises(ValueError, match="crontab or a timedelta"):
        workflow("odd", schedule=odd)(lambda context, given: None)
    for fine in (crontab(), timedelta(hours=1)):
        workflow(f"fine-{type(fine).__name__}", schedule=fine)(lambda context, given: None)


def test_a_run_that_is_started_while_apps_are_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a module that starts one where it should define one: it says so, and not that a workflow is missing."""
    monkeypatch.setattr(apps, "ready", False)
    with pytest.raises(AppRegistryNotReady, match="not by a module as it is imported"):
        start("not-there-yet")


# --- inputs -----------------------------------------------------------------------------------------------------------


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")

    full_name: str = Field(alias="fullName")
    at: datetime | None = None
    required_later: str = None  # type: ignore[assignment]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.full_name)


@pytest.mark.django_db
def test_an_input_is_read_again_as_it_was_given() -> None:
    made = workflow("aliased", input=Aliased)(lambda context, given: [given.full_name, given.length, str(given.at)])
    assert made.input_names == ["fullName", "at", "required_later"]
    run = finish(start("aliased", {"fullName": "Ada", "at": "2026-01-20T12:00:00Z"}))
    assert (run.state, result_of(run)) == (RunState.SUCCEEDED, ["Ada", 3, "2026-01-20 12:00:00+00:00"])
    assert input_of(run)["fullName"] == "Ada"


class OneWay(BaseModel):
    name: str = Field(validation_alias="given", serialization_alias="told")


class Numbers(BaseModel):
    number: float = 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("model", "given"), [(OneWay, {"given": "Ada"}), (Numbers, {"number": float("nan")}), (dict, {})]
)
def test_what_could_not_be_read_again_starts_nothing(model: Any, given: dict[str, Any]) -> None:
    def admit(read: Any, granter: Any) -> Any:
        read.__dict__["number"] = object()
        return read

    options = {"input": Numbers, "admit": admit} if model is dict else {"input": model}
    workflow("odd", **options)(lambda context, given: None)
    with pytest.raises(InvalidInput, match="input"):
        start("odd", given)
    assert not WorkflowRun.objects.exists()


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_errors_name_the_line_that_somebody_else_wrote() -> None:
    @step(retries=0)
    def charge(context: Context, *, amount: int) -> int:
        return amount // 0

    @workflow("divides")
    def divides(context: Context, given: Any) -> Any:
        return charge(context, amount=1)

    @workflow("forgets")
    def forgets(context: Context, given: Any) -> Any:
        return charge(context, price=1)

    @workflow("unstorable")
    def unstorable(context: Context, given: Any) -> Any:
        return object()

    def message(name: str) -> str:
        return finish(start(name)).error_message

    assert message("divides").startswith("ZeroDivisionError in test_definitions.py:")
    assert message("divides").endswith(", charge")
    assert message("forgets").startswith("TypeError in test_definitions.py:")
    assert message("forgets").endswith(", forgets")
    assert message("unstorable") == "What the workflow unstorable returns or hands over is no JSON."
