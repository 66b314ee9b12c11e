"""Credentials: the sealed values of one connection, apart from it."""

from __future__ import annotations

from typing import Any

from django.db import models

from connections.models.connections import ExternalApiConnection
from external_apis import audit
from external_apis.models import Tenant
from external_apis.models.base import Announced, History, Timestamped
from external_apis.models.secret_bearing import SECRET_COLUMNS, SecretBearing

# The connection, whose event tells of the change, says so itself.
_NOT_A_CREDENTIAL = {"connection_id", "tenant_id"}


class ExternalApiCredential(Announced, SecretBearing, Timestamped):
    """``secrets`` holds the seed's plain keys: ``access_token``, ``refresh_token``, ``api_key``, ``username``, …"""

    connection = models.OneToOneField(
        ExternalApiConnection, on_delete=models.CASCADE, primary_key=True, related_name="credential"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    token_type = models.CharField(max_length=50, blank=True, default="")
    expires_at = models.DateTimeField(null=True, blank=True)
    scopes = models.JSONField(default=list, blank=True)

    history = History(excluded_fields=SECRET_COLUMNS)

    class Meta:
        verbose_name = "credential"

    def __str__(self) -> str:
        return f"Credential of {self.connection_id}"

    def changed_names(self) -> tuple[str, ...]:
        return (self.connection_id,)

    def changes_since(self, before: ExternalApiCredential | None) -> dict[str, list[Any]]:
        """What differs from a copy (None: the row is new), secrets as fingerprints, for its connection's event."""
        changes = audit.changed_fields(self, before)
        return {f"credentials.{name}": values for name, values in changes.items() if name not in _NOT_A_CREDENTIAL}
