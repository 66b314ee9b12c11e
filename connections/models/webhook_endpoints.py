"""Webhooks to others: where events are sent, what is to be sent there, and each attempt to send it."""

from __future__ import annotations

from functools import partial

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections.models.due_work import DueWork
from external_apis.fields import SecretsField
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import OutboxEvent, Tenant
from external_apis.models.base import Authored, Timestamped
from external_apis.models.secret_bearing import SecretBearing


class DisabledReason(models.TextChoices):
    BY_HAND = "by_hand"
    FAILING = "failing"
    """No delivery has succeeded for five days."""
    GONE = "gone"
    """It answered 410."""


class LivingEndpoints(models.Manager["WebhookEndpoint"]):
    """Those that nobody has deleted."""

    def get_queryset(self) -> models.QuerySet[WebhookEndpoint]:
        return super().get_queryset().filter(deleted_at=None)


class WebhookEndpoint(SecretBearing, Authored, Timestamped):
    """A URL that is told of events: of its tenant's, or of all where it has no tenant.

    ``secrets`` holds ``secret``, and those before it that sign as well for a while (see
    `connections.webhooks.outbound.signing`). ``events`` are filters of `external_apis.event_types`. ``failing_since``
    is the first failure after the last success, or after a day without an attempt that followed it. ``is_slow`` tells
    that an answer took long and fewer than ten have come quickly since, ``quick_answers``; ``served_at`` when
    deliveries were claimed last.

    One that is deleted is switched off and found no more; the row goes when its deliveries have gone, which are many
    (see `connections.webhooks.outbound.pruning`).
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "whe"), editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    url = models.CharField("URL", max_length=2000)
    events = ArrayField(models.CharField(max_length=60))
    description = models.CharField(max_length=500, blank=True, default="")
    is_enabled = models.BooleanField("enabled", default=True)
    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_reason = models.CharField(max_length=10, choices=DisabledReason.choices, blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    is_slow = models.BooleanField(default=False, editable=False)
    quick_answers = models.PositiveSmallIntegerField(default=0, editable=False)
    served_at = models.DateTimeField(null=True, blank=True, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = LivingEndpoints()
    with_deleted = models.Manager["WebhookEndpoint"]()

    class Meta:
        verbose_name = "webhook endpoint"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["tenant", "-id"], name="webhook_endpoint_by_tenant"),
            models.Index(fields=["id"], condition=Q(deleted_at__isnull=False), name="webhook_endpoint_deleted"),
        )

    def __str__(self) -> str:
        return self.url if self.deleted_at is None else f"{self.url} (being removed)"


class DeliveryStatus(models.TextChoices):
    PENDING = "pending"
    """Due, under way, or waiting for its next attempt, or for its endpoint to be switched on again."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """All attempts failed."""


class WebhookDelivery(DueWork):
    """One event for one endpoint. ``attempts`` begins anew with a replay; the message's id is always the event's.

    ``holder`` names the sweep that has claimed it, until ``due_at``; an endpoint's deliveries are claimed by one sweep
    at a time, so that the number under way is bounded over all processes. As events do, deliveries and attempts outlive
    their tenant for as long as they are kept: those foreign keys are not enforced, and need no index.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "whd"), editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="+", db_index=False)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="+",
    )
    event = models.ForeignKey(OutboxEvent, on_delete=models.CASCADE, related_name="+", db_index=False)
    type = models.CharField(max_length=60)
    status = models.CharField(max_length=10, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    holder = models.CharField(max_length=MAX_LENGTH, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Of the last answer.")
    last_error = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=["event", "endpoint"], name="webhook_delivery_once"),)
        indexes = (
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_latest"),
            models.Index(fields=["endpoint", "due_at"], condition=Q(due_at__isnull=False), name="webhook_delivery_due"),
            models.Index(fields=["endpoint"], condition=~Q(holder=""), name="webhook_delivery_held"),
        )

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class DeliveryAttempt(models.Model):
    """One request and what came of it. ``answer`` holds ``body``, the first 2 KB of it as text, sealed.

    The request's body is the event's, its headers are those of Standard Webhooks with ``sent_at`` in them.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "wha"), editable=False)
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="+", db_index=False)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="+",
    )
    sent_at = models.DateTimeField()
    url = models.CharField(max_length=2000)
    duration_ms = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True, default="")
    answer = SecretsField(default=dict, editable=False)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=["delivery", "-id"], name="webhook_attempt_latest"),)

    def __str__(self) -> str:
        return f"{self.delivery_id} {self.sent_at:%Y-%m-%d %H:%M:%S}"
