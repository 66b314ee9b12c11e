"""What the calls of connections came to: figures by time, and single calls."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from connections.models.connections import ExternalApiConnection
from external_apis.ids import MAX_LENGTH
from external_apis.models import ExternalApi, Tenant


class Step(models.TextChoices):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class CallPeriod(models.Model):
    """What was counted of a connection's calls in one minute, hour or day (UTC).

    ``figures`` is a bag of whole numbers, as `connections.client.measures` names them.
    """

    connection = models.ForeignKey(ExternalApiConnection, on_delete=models.CASCADE, related_name="+", db_index=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    step = models.CharField(max_length=6, choices=Step.choices)
    starts_at = models.DateTimeField()
    figures = models.JSONField(default=dict)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["connection", "step", "starts_at"], name="call_period_once"),)
        indexes = (models.Index(fields=["step", "starts_at"], name="call_period_by_age"),)

    def __str__(self) -> str:
        return f"{self.connection_id} {self.step} {self.starts_at:%Y-%m-%d %H:%M}"


class ProviderPeriod(models.Model):
    """The same of a provider, apart for each tenant whose connections were used (None for those of no tenant).

    So nobody learns from a shared provider how much others call; and its figures outlive its connections.
    """

    external_api = models.ForeignKey(ExternalApi, on_delete=models.CASCADE, related_name="+", db_index=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    step = models.CharField(max_length=6, choices=Step.choices)
    starts_at = models.DateTimeField()
    figures = models.JSONField(default=dict)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["external_api", "step", "starts_at", "tenant"],
                name="provider_period_once",
                nulls_distinct=False,
            ),
        )
        indexes = (models.Index(fields=["step", "starts_at"], name="provider_period_by_age"),)

    def __str__(self) -> str:
        return f"{self.external_api_id} {self.step} {self.starts_at:%Y-%m-%d %H:%M}"


class ProviderTotal(models.Model):
    """What was ever counted of a provider's calls: it only grows, as Prometheus wants it."""

    external_api = models.OneToOneField(ExternalApi, on_delete=models.CASCADE, primary_key=True, related_name="+")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    figures = models.JSONField(default=dict)

    def __str__(self) -> str:
        return str(self.external_api_id)


class ObservedCall(models.Model):
    """A call that failed, or one good one out of many; each connection keeps the latest of both.

    ``path`` has no query and no secret; ``error`` is the code of what the call ended in, empty for a good one;
    ``duration_ms`` covers all ``attempts`` and waits, up to the answer's head, or to where its body broke off.
    """

    connection = models.ForeignKey(ExternalApiConnection, on_delete=models.CASCADE, related_name="+", db_index=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    ended_at = models.DateTimeField(default=timezone.now)
    method = models.CharField(max_length=16)
    path = models.CharField(max_length=300)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=60, blank=True, default="")
    duration_ms = models.BigIntegerField()
    attempts = models.PositiveIntegerField()
    request_id = models.CharField(max_length=max(64, MAX_LENGTH))

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes = (
            models.Index(fields=["connection", "-id"], name="observed_call_latest"),
            models.Index(fields=["connection", "-id"], name="observed_call_failed", condition=~models.Q(error="")),
            models.Index(fields=["ended_at"], name="observed_call_by_age"),
        )

    def __str__(self) -> str:
        return f"{self.method} {self.path}"
