"""Find events of the audit log: always by an index, however many there are."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from external_apis.errors import Forbidden
from external_apis.ids import first_id
from external_apis.models import AuditEvent
from external_apis.tenancy import Scope

__all__ = ["find_events"]


def find_events(
    scope: Scope,
    *,
    actor: str = "",
    action: str = "",
    object_id: str = "",
    object_type: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[AuditEvent]:
    """Return the events of a scope, newest first; ``since`` is the first moment of them, ``until`` the one after.

    Raises `Forbidden` for a key of mode test: an event tells of a live row or of one of the sandbox, and not which.
    """
    if scope.is_sandbox:
        raise Forbidden("The audit log tells of what is live too: a test key does not read it.")
    exact = {"actor": actor, "action": action, "object_id": object_id, "object_type": object_type}
    rows = scope.own(AuditEvent.objects.all()).filter(**{name: value for name, value in exact.items() if value})
    # Ids are ordered by time, and the index that a filter uses goes on with them.
    if since is not None:
        rows = rows.filter(pk__gte=first_id("evt", since))
    if until is not None:
        rows = rows.filter(pk__lt=first_id("evt", until))
    return rows
