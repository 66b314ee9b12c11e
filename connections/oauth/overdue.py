"""Whether renewals happen at all: for the health of the product, and for whoever looks at the admin."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from connections.models import Grant
from external_apis.health import OK

__all__ = ["look"]

_SHORTEST_SECONDS = 600
_MISSED_SWEEPS = 3


def look() -> str:
    """Return ``ok``, or for how long the oldest due grant has been waiting; one query by an index.

    A sweep gives every due grant another time, whatever becomes of it. One that was due ten minutes ago (or three times
    ``REFRESH_EVERY_SECONDS``, if that is longer) tells that none runs, or none to its end.
    """
    now = timezone.now()
    allowed = timedelta(seconds=max(_SHORTEST_SECONDS, _MISSED_SWEEPS * settings.REFRESH_EVERY_SECONDS))
    oldest = Grant.objects.filter(due_at__lt=now - allowed).order_by("due_at").values_list("due_at", flat=True).first()
    if oldest is None:
        return OK
    return f"tokens are not being renewed: the oldest has been due for {(now - oldest) // timedelta(minutes=1)} minutes"
