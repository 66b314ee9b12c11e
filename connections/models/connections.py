"""Connections: seed 000's ``ExternalApiConnection``, somebody's account at a provider."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q
from django.utils import timezone

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Account, ExternalApi, Partner, Tenant
from external_apis.models.base import Announced, Authored, History, SoftDeleted, Timestamped


class ConnectionStatus(models.TextChoices):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ERROR = "error"


class ExternalApiConnection(Announced, Authored, Timestamped, SoftDeleted):
    """The secrets stand in `ExternalApiCredential`, so that listing connections never touches them.

    ``last_used_at``, ``calls_count`` and ``errors_count`` are rolled up from Valkey and lag by some seconds.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "conn"), editable=False)
    external_api = models.ForeignKey(
        ExternalApi, on_delete=models.PROTECT, related_name="connections", verbose_name="provider"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="connections")
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, null=True, blank=True, related_name="connections")
    user = models.ForeignKey(
        Account,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="connections",
        help_text="Whose account at the provider it is, where it belongs to one user.",
    )
    owner = models.ForeignKey(
        Account,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="owned_connections",
        help_text="Who looks after it.",
    )
    connection_name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=100, default="default")
    note = models.TextField(blank=True, default="")
    rotate_by = models.DateField(null=True, blank=True, help_text="When its credentials should be replaced.")
    provider_data = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=10, choices=ConnectionStatus.choices, default=ConnectionStatus.ACTIVE)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_sync_at = models.DateTimeField(null=True, blank=True, editable=False)
    error_message = models.TextField(null=True, blank=True, editable=False)
    calls_count = models.BigIntegerField(default=0, editable=False)
    errors_count = models.BigIntegerField(default=0, editable=False)
    authenticated_at = models.DateTimeField(default=timezone.now, editable=False)

    history = History(excluded_fields=["last_used_at", "calls_count", "errors_count"])

    class Meta:
        verbose_name = "connection"
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=["external_api", "slug", "tenant", "partner", "user"],
                condition=Q(deleted_at__isnull=True),
                nulls_distinct=False,
                name="connection_live_unique",
                violation_error_message="A live connection with this slug exists already for this provider, tenant, "
                "partner and user.",
            ),
        )
        # Lists are ordered by the id, which is ordered by time.
        indexes = (
            models.Index(fields=["external_api", "-id"], condition=Q(deleted_at__isnull=True), name="conn_by_api"),
            # These two hold all that a list of all providers' connections is chosen by.
            models.Index(
                fields=["-id"], include=["external_api"], condition=Q(deleted_at__isnull=True), name="conn_by_id"
            ),
            models.Index(
                fields=["tenant", "-id"],
                include=["external_api"],
                condition=Q(deleted_at__isnull=True),
                name="conn_of_tenant_by_id",
            ),
            models.Index(fields=["status", "-id"], condition=Q(deleted_at__isnull=True), name="conn_by_status"),
        )

    def __str__(self) -> str:
        return self.connection_name

    def changed_names(self) -> tuple[str, ...]:
        # A new one may change what its provider's other references mean.
        return (self.pk, self.external_api_id)
