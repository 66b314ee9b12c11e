"""Which batches of counted calls have been added to the connections."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class UsageBatch(models.Model):
    """A batch taken from Valkey, recorded with its effect so that a broken-off roll-up is not counted twice."""

    id = models.CharField(primary_key=True, max_length=48)
    applied_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.id
