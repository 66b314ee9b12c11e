"""What a workflow and its steps are, and those that there are: by their names, under which runs remember them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import Signature
from typing import Any, Protocol, TypeVar

from celery.schedules import crontab
from pydantic import BaseModel, ConfigDict
from pydantic.errors import PydanticInvalidForJsonSchema

from connections.call_shapes import require_arguments
from connections.workflows.context import Context
from external_apis import scopes
from external_apis.errors import InvalidInput, NotFound
from external_apis.ids import can_name
from external_apis.key_granting import Granter
from external_apis.provider_input import read_body

__all__ = [
    "NoInput",
    "Schedule",
    "Step",
    "Workflow",
    "find_step",
    "find_workflow",
    "nothing_to_undo",
    "step",
    "workflow",
    "workflows",
]

Compensation = Callable[[Context, Mapping[str, Any], Any], object]
Admission = Callable[[Any, Granter], BaseModel]
Schedule = crontab | timedelta
_SHORTEST_INTERVAL = timedelta(minutes=1)
_LONGEST_NAME = 100


class NoInput(BaseModel):
    """The input of a workflow that takes none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Step:
    """``function(context, **given)`` with what is to be done when it fails, or when what follows does.

    Call it from a workflow's body: ``charge(context, amount=100)``. It is done once for a run, and its result is the
    one that was stored ever after. See `step` for the fields.
    """

    name: str
    function: Callable[..., Any]
    compensate: Compensation | None = None
    retries: int = 3
    backoff_seconds: float = 1.0
    is_repeatable: bool = True
    is_local: bool = False
    shape: Signature | None = field(default=None, repr=False, compare=False)

    def __call__(self, context: Context, **given: Any) -> Any:
        if self.shape is not None:
            self.shape.bind(context, **given)  # an error of the body, which called it so
        return context.perform(self, given)


class _Body(Protocol):
    def __call__(self, context: Context, given: Any, /) -> Any: ...


@dataclass(frozen=True)
class Workflow:
    """A named body, and the pydantic model of what it takes. See `workflow` for the fields."""

    name: str
    body: _Body
    input: type[BaseModel] = NoInput
    schedule: Schedule | None = None
    scheduled_input: Mapping[str, Any] = field(default_factory=dict)
    admit: Admission | None = None
    needs: str = ""

    @property
    def description(self) -> str:
        return (self.body.__doc__ or "").strip().partition("\n")[0]

    @property
    def shown_schedule(self) -> str | None:
        """When it is started: five fields as in a crontab, or an interval; None where it is not scheduled."""
        at = self.schedule
        if at is None:
            return None
        if isinstance(at, timedelta):
            return f"every {at.total_seconds():g} s"
        return repr(at).removeprefix("<crontab: ").partition(" (")[0]

    @property
    def input_names(self) -> list[str]:
        """What an input may hold."""
        return [field.alias or name for name, field in self.input.model_fields.items()]

    def read(self, given: Any) -> BaseModel:
        """Validate an input. Raises `InvalidInput` with field paths."""
        return read_body(self.input, given)


_steps: dict[str, Step] = {}
_workflows: dict[str, Workflow] = {}


def step(
    *,
    name: str = "",
    compensate: Compensation | None = None,
    retries: int = 3,
    backoff_seconds: float = 1.0,
    is_repeatable: bool = True,
    is_local: bool = False,
) -> Callable[[Callable[..., Any]], Step]:
    """Make a function ``(context, **given)`` a step; given and returned is JSON.

    The name is the function's unless another is given, and stands for one function in the whole project. A failure that
    may pass is tried again ``retries`` times, after ``backoff_seconds`` and twice as long each time; an error of ours
    that is not transient never is. ``compensate(context, given, result)`` undoes the step; the result is None where the
    step failed and may have had an effect all the same. ``is_repeatable`` False is for what knows no idempotency key:
    when nobody knows whether it was done it is not done again, and has failed. ``is_local`` is for a step whose whole
    effect is in this database: it is stored in one transaction with the result, and so happens once.

    A step that has no compensation and may have had an effect is left behind: the run is `failed`. So one that only
    reads says ``compensate=nothing_to_undo``. Raises `ValueError` for functions that could not be called like this.
    """

    def make(function: Callable[..., Any]) -> Step:
        shape = require_arguments(function, "context", has_keywords=True)
        if compensate is not None:
            require_arguments(compensate, "context", "given", "result")
        made = Step(
            name or function.__name__.replace("_", "-"),
            function,
            compensate,
            retries,
            backoff_seconds,
            is_repeatable,
            is_local,
            shape,
        )
        return _enter(_steps, made.name, made)

    return make


def nothing_to_undo(context: Context, given: Mapping[str, Any], result: Any) -> None:
    """Compensate a step that changes nothing anywhere."""


def workflow(
    name: str,
    *,
    input: type[BaseModel] = NoInput,  # noqa: A002 (it is what a run calls it too)
    schedule: Schedule | None = None,
    scheduled_input: Mapping[str, Any] | None = None,
    admit: Admission | None = None,
    needs: str = "",
) -> Callable[[_Body], Workflow]:
    """Make a function ``(context, given)`` a workflow: it calls steps, and returns JSON.

    The body is run again from its beginning whenever a worker takes the run up, so it has to call the same steps in the
    same order for the same input and results: what is random, of the clock or from elsewhere belongs into a step. It
    never sees a step fail.

    ``schedule`` starts it with ``scheduled_input``, once for each of its times (UTC); an interval is a minute or more,
    and its times are counted from 1970. ``needs`` is a scope that whoever starts, cancels or retries a run has to have.
    ``admit(given, granter)`` raises `Forbidden` for what whoever starts the run may not have done, and returns the
    input with their bounds; its granter is of the run's tenant.

    Raises `ValueError` for what cannot be scheduled, called, or stored to be read again.
    """

    def make(body: _Body) -> Workflow:
        require_arguments(body, "context", "given")
        made = Workflow(name, body, input, schedule, scheduled_input or {}, admit, needs)
        if needs and needs not in scopes.SCOPES:
            raise ValueError(f"{name!r} needs the scope {needs!r}, and there is none")
        _check_input(made)
        if schedule is not None:
            _check_schedule(made)
        return _enter(_workflows, name, made)

    return make


def find_workflow(name: str) -> Workflow:
    """Return a workflow by its name. Raises `NotFound`."""
    found = _workflows.get(name)
    if found is None:
        raise NotFound(f"There is no workflow {name[:100]!a}.")
    return found


def find_step(name: str) -> Step | None:
    """Return a step by its name."""
    return _steps.get(name)


def workflows() -> list[Workflow]:
    """Return all workflows in the order of their names."""
    return sorted(_workflows.values(), key=lambda one: one.name)


def _check_input(made: Workflow) -> None:
    try:
        schema = json.dumps(made.input.model_json_schema())
    except PydanticInvalidForJsonSchema as error:
        raise ValueError(f"the input of {made.name!r} has no JSON Schema: {error.message}") from None
    if '"writeOnly": true' in schema:
        raise ValueError(
            f"the input of {made.name!r} has a SecretStr, of which asterisks would be stored: make it a str"
        )


def _check_schedule(made: Workflow) -> None:
    if not isinstance(made.schedule, crontab | timedelta):
        raise ValueError(f"the schedule of {made.name!r} is to be a crontab or a timedelta")  # noqa: TRY004 (as all here)
    if isinstance(made.schedule, timedelta) and made.schedule < _SHORTEST_INTERVAL:
        raise ValueError(f"{made.name!r} is scheduled more often than once a minute")
    try:
        made.read(dict(made.scheduled_input))
    except InvalidInput as error:
        raise ValueError(f"{made.name!r} cannot be started with its scheduled_input: {error.message}") from None


_Made = TypeVar("_Made", Step, Workflow)


def _enter(table: dict[str, _Made], name: str, made: _Made) -> _Made:
    if not can_name(name) or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(f"{str(name)[:200]!r} is no name of up to {_LONGEST_NAME} characters")
    if name in table:
        raise ValueError(f"{name!r} is the name of something else already")
    table[name] = made
    return made
