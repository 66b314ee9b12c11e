"""What a workflow's body and its steps know of the run that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connections import lookup, services
from connections.client import ApiClient
from connections.models import WorkflowRun
from connections.workflows.absences import Postponed, is_away
from external_apis.errors import WorkflowBroken
from external_apis.models import KeyMode
from external_apis.tenancy import Scope

if TYPE_CHECKING:
    from connections.workflows.definitions import Step

__all__ = ["Context", "NoJson"]


class NoJson(TypeError):
    """What somebody's function returned or hands over cannot be stored; the message names nothing of its contents."""


_UNDO = "-undo"
_Perform = Callable[["Step", Mapping[str, Any]], Any]


def _perform_nothing(step: Step, given: Mapping[str, Any]) -> Any:
    raise WorkflowBroken(f"The step {step.name} is called from a step; only a workflow's body calls steps.")


@dataclass(frozen=True)
class Context:
    """``idempotency_key`` is a step's own, the same however often it is repeated; a body has none. That of a
    compensation is another one only after it was refused.

    ``scope`` is that of whoever started the run: nothing beyond it is used.
    """

    run_id: str
    scope: Scope
    idempotency_key: str = ""
    perform: _Perform = field(default=_perform_nothing, repr=False)
    left: dict[str, str] = field(default_factory=dict, repr=False)
    opened: list[str] = field(default_factory=list, repr=False)

    @classmethod
    def of_undo(cls, run: WorkflowRun, position: int, refusals: int = 0) -> Context:
        """Return the context of the compensation of the step at a position, which was refused so often before."""
        return cls.of(run, f"{position}{_UNDO}{f'-{refusals}' if refusals else ''}")

    @classmethod
    def of(cls, run: WorkflowRun, place: str = "", perform: _Perform = _perform_nothing) -> Context:
        """Return the context of a run's body, or of the step at a ``place`` of it."""
        scope = Scope(run.tenant_id, None if not run.mode else run.mode == KeyMode.TEST)
        return cls(run.pk, scope, f"{run.pk}-{place}" if place else "", perform)

    @property
    def step_key(self) -> str:
        """The idempotency key of the step itself, also in its compensation, which has another."""
        return self.idempotency_key.partition(_UNDO)[0]

    def get_api_client(self, reference: str) -> ApiClient:
        """Return the client of the scope's own connection that a reference names; raises as `services` does.

        Raises `NotFound` for another tenant's, as for one that never was. While our database or a key is away the run
        waits: a step that has had no client before has done nothing.
        """
        try:
            client = services.get_api_client(lookup.find_in_scope(reference, self.scope).pk)
        except Exception as error:
            if is_away(error):
                raise Postponed(error, may_have_happened=bool(self.opened)) from error
            raise
        self.opened.append(reference)
        return client

    def hand_over(self, **secrets: str) -> None:
        """Leave what only whoever started the run may have, once; it is no part of any result.

        Raises `TypeError` for what is no text, or has a name that is none, and `WorkflowBroken` outside of a step.
        """
        if not self.idempotency_key or self.idempotency_key != self.step_key:
            raise WorkflowBroken("Only a step hands something over, no body and no compensation.")
        for name, value in secrets.items():
            if not name.isidentifier():
                raise NoJson(f"{name[:60]!a} is no name.")
            if not isinstance(value, str):
                raise NoJson(f"{name[:60]} is no text.")
        self.left.update(secrets)
