"""Which encryption keys have sealed something in this database."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class EncryptionKey(models.Model):
    """A key id with a sealed check value, by which another key under the same id is told apart."""

    id = models.CharField(primary_key=True, max_length=32)
    check_value = models.BinaryField()
    first_used_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.id
