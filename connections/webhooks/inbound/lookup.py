"""Finds events again: one's own, and no one else's."""

from __future__ import annotations

from django.db.models import QuerySet

from connections.models import WebhookEvent
from external_apis.errors import NotFound
from external_apis.ids import can_name
from external_apis.tenancy import EVERYTHING, Scope

__all__ = ["find", "visible"]


def visible(scope: Scope = EVERYTHING) -> QuerySet[WebhookEvent]:
    """The scope's own events, the latest first, with their providers; what came in them stays sealed."""
    return scope.own(WebhookEvent.objects.select_related("external_api"))


def find(row_id: str, scope: Scope = EVERYTHING) -> WebhookEvent:
    """Return an event by our id. Raises `NotFound`."""
    row = visible(scope).filter(pk=row_id).first() if can_name(row_id) else None
    if row is None:
        raise NotFound(f"Webhook event {row_id if can_name(row_id) else ascii(row_id)} not found")
    return row
