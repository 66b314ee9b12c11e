"""Webhooks that came in: one row for each event of a provider, and one for each cause of refusals."""

from __future__ import annotations

from functools import partial

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections.models.connections import ExternalApiConnection
from connections.models.due_work import DueWork
from external_apis.fields import SecretsField
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import ExternalApi, Tenant


class EventStatus(models.TextChoices):
    RECEIVED = "received"
    """Waits for the worker, for the first time or again after a failure."""
    PROCESSED = "processed"
    """Every handler is done, or there was none."""
    IGNORED = "ignored"
    """Its type is none of those that the provider's ``events`` want."""
    DEAD = "dead"
    """A handler has failed as often as it is tried; a replay begins anew."""


class WebhookEvent(DueWork):
    """An event that a provider sent and proved to have sent.

    ``content`` is sealed: what came may be about people. It holds ``body`` (or ``body_base64`` where that is no text)
    and ``content_type``. ``event_id`` is the provider's, or a digest of what it signed; ``event_type`` shows as many of
    the ``types`` as fit, with commas. ``results`` has an object for each handler: ``status`` (done or failed),
    ``attempts``, ``at``, ``error``.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "wev"), editable=False)
    # Without constraints: each would lock the one row of the provider for every event that comes in.
    external_api = models.ForeignKey(
        ExternalApi,
        on_delete=models.CASCADE,
        related_name="webhook_events",
        verbose_name="provider",
        db_index=False,
        db_constraint=False,
    )
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False, db_constraint=False
    )
    connection = models.ForeignKey(
        ExternalApiConnection,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="Whose account at the provider it is about, where that is known.",
    )
    event_id = models.CharField(max_length=200)
    event_type = models.CharField(max_length=200, blank=True)
    types = ArrayField(models.TextField(), default=list, blank=True, editable=False)
    status = models.CharField(max_length=9, choices=EventStatus.choices, default=EventStatus.RECEIVED)
    content = SecretsField(default=dict, editable=False)
    results = models.JSONField(default=dict, blank=True)
    received_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        verbose_name = "webhook event"
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=["external_api", "event_id"], name="webhook_event_once"),)
        # The ids are ordered by time, so lists are; each index is one more to write before a provider is answered.
        indexes = (
            models.Index(
                fields=["external_api", "due_at"], condition=Q(due_at__isnull=False), name="webhook_event_due"
            ),
            models.Index(fields=["tenant", "-id"], condition=Q(tenant__isnull=False), name="webhook_event_of_tenant"),
            models.Index(fields=["connection"], condition=Q(connection__isnull=False), name="webhook_event_connection"),
            models.Index(fields=["-id"], condition=Q(status="dead"), name="webhook_event_dead"),
        )

    def __str__(self) -> str:
        return f"{self.event_type or 'event'} {self.event_id}"


class WebhookRefusal(models.Model):
    """How often a provider's webhooks were refused for one reason, and what is likely to be the matter."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "whr"), editable=False)
    external_api = models.ForeignKey(
        ExternalApi, on_delete=models.CASCADE, related_name="webhook_refusals", verbose_name="provider"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    reason = models.CharField(max_length=20)
    explanation = models.TextField(help_text="Of the latest one.")
    address = models.GenericIPAddressField(null=True, blank=True, help_text="Where the latest one came from.")
    count = models.BigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        verbose_name = "refused webhook"
        ordering = ("-last_at", "-id")
        constraints = (models.UniqueConstraint(fields=["external_api", "reason"], name="webhook_refusal_once"),)

    def __str__(self) -> str:
        return f"{self.reason}: {self.count}"
