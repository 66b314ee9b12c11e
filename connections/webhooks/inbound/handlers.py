"""Who wants to know of which events: functions that are registered in modules called ``webhook_handlers``.

    @on_webhook("stripe", "payment_intent.succeeded")
    def mark_as_paid(event: ReceivedEvent) -> None: ...

Such a module of any installed app is imported when Django starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from connections.call_shapes import require_arguments
from connections.webhooks.inbound.patterns import matches_any

if TYPE_CHECKING:
    from connections.models import ExternalApiConnection
    from external_apis.models import ExternalApi

__all__ = ["Handler", "ReceivedEvent", "handlers_of", "on_webhook"]


@dataclass(frozen=True)
class ReceivedEvent:
    """What a handler is given.

    ``id`` and ``type`` are the provider's words (``types`` has them one by one where a body is a batch), ``payload``
    is the parsed body and ``body`` the raw one. ``provider`` is its slug. ``idempotency_key`` is the same whenever this
    handler gets this event: pass it on to whoever is called. ``attempt`` counts from 1.
    """

    row_id: str
    id: str
    types: tuple[str, ...]
    payload: Any
    body: bytes
    provider: str
    external_api_id: str
    tenant_id: str | None
    connection: ExternalApiConnection | None
    received_at: datetime
    idempotency_key: str = ""
    attempt: int = 1

    @property
    def type(self) -> str:
        return ",".join(self.types)

    def __repr__(self) -> str:
        return f"<ReceivedEvent {self.row_id} {self.type}>"


@dataclass(frozen=True)
class Handler:
    """``name`` is what its outcome is stored under."""

    name: str
    slug: str
    pattern: str
    function: Callable[[ReceivedEvent], object]
    is_atomic: bool
    is_for_tenants: bool


_Function = TypeVar("_Function", bound=Callable[[ReceivedEvent], object])
_handlers: list[Handler] = []


def on_webhook(
    slug: str, pattern: str = "*", *, atomic: bool = True, tenants: bool = False
) -> Callable[[_Function], _Function]:
    """Register a function for a provider's events, of which ``pattern`` names the types: ``invoice.*``.

    It runs in the transaction that stores its outcome, so what it writes to the database happens exactly once. One that
    calls somebody else says ``atomic=False``: it holds no transaction and no connection while it waits, runs at least
    once, and passes ``event.idempotency_key`` on. Either is ended after 110 s; longer work belongs into a workflow. One
    that raises is tried again.

    A tenant's own provider may have any slug, and its secret is the tenant's: who knows that can make up events. So
    only one that says ``tenants=True`` gets those too, and has to heed ``event.tenant_id``.

    Raises `ValueError` for a second function of the same name, whose outcomes could not be told apart, and for one that
    does not take an event.
    """

    def register(function: _Function) -> _Function:
        require_arguments(function, "event")
        name = f"{function.__module__}.{function.__qualname__}"
        if any(handler.name == name and handler.function is not function for handler in _handlers):
            raise ValueError(f"There is another webhook handler called {name}.")
        _handlers.append(Handler(name, slug, pattern, function, atomic, tenants))
        return function

    return register


def handlers_of(api: ExternalApi, types: Sequence[str]) -> list[Handler]:
    """Return the handlers of a provider's event in the order of their registration, each function once."""
    is_shared = api.tenant_id is None and api.partner_id is None
    found = (
        handler
        for handler in _handlers
        if handler.slug == api.slug and (is_shared or handler.is_for_tenants) and matches_any([handler.pattern], types)
    )
    return list({handler.name: handler for handler in found}.values())
