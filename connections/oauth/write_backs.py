"""Notes that another system wants to have tokens that were stored: one indexed statement, in their transaction.

What is noted is written later and elsewhere (`connections.imports.django_oauth.writing_back`), so that nothing there
can harm a renewal.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import F
from django.db.models.functions import Now

from connections.models import WriteBack

__all__ = ["note"]


def note(connection_ids: Collection[str]) -> None:
    """Make the write-backs of these connections due, where there are any; whoever is at one now does it again."""
    rows = WriteBack.objects.filter(connection_id__in=connection_ids)
    rows.update(due_at=Now(), fence=F("fence") + 1, attempts=0)
