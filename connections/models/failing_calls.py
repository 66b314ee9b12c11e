"""Connections whose calls fail at present."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from connections.models.connections import ExternalApiConnection
from external_apis.models import Tenant


class FailingCalls(models.Model):
    """There is a row from when a connection's calls begin to fail until they succeed again."""

    connection = models.OneToOneField(
        ExternalApiConnection, on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    since = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return str(self.connection_id)
