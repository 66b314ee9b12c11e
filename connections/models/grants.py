"""Grants: what a provider has granted to a connection over time, and whose turn it is to renew it."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections.models.connections import ExternalApiConnection
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant


class GrantState(models.TextChoices):
    GOOD = "good"
    IN_DOUBT = "in_doubt"
    """A renewal may or may not have happened; it is tried once more with the old token."""
    NEEDS_REAUTHORIZATION = "needs_reauthorization"
    ENDED = "ended"
    """Expired or revoked: nothing is left to renew."""


class Grant(models.Model):
    """The renewal of one connection's tokens; the tokens themselves stand in `ExternalApiCredential`.

    Apart from the connection and the credential, so that a lease that is taken does not make kept clients stale.
    ``fence`` numbers leases and whatever else takes the turn from a holder; ``stored_fence`` is the number under which
    the stored refresh token came. ``due_at`` is when the sweep takes it next: for a renewal, for another attempt after
    a failure, or to mark it expired; None means never.
    """

    connection = models.OneToOneField(
        ExternalApiConnection, on_delete=models.CASCADE, primary_key=True, related_name="grant"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=24, choices=GrantState.choices, default=GrantState.GOOD)
    due_at = models.DateTimeField(null=True, blank=True)
    fence = models.BigIntegerField(default=0)
    stored_fence = models.BigIntegerField(
        default=0, db_default=0, help_text="An answer of a turn with no higher number has nothing new."
    )
    leased_until = models.DateTimeField(null=True, blank=True)
    lease_holder = models.CharField(max_length=80, blank=True)
    failures = models.PositiveSmallIntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True, help_text="The first of the failures in a row.")
    rotates = models.BooleanField(
        null=True, help_text="Whether the provider answers with another refresh token each time; None: not seen yet."
    )
    requested_scopes = models.JSONField(default=list, blank=True)
    renewed_at = models.DateTimeField(null=True, blank=True)
    incident = models.CharField(
        max_length=40, blank=True, help_text="What the owner was told of last; empty when all is well again."
    )

    class Meta:
        indexes = (models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="grant_by_due_at"),)

    def __str__(self) -> str:
        return f"Grant of {self.connection_id}"


class GrantEvent(models.Model):
    """Something that happened to a grant: time, cause and outcome. Rows are only ever inserted."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "gev"), editable=False)
    connection = models.ForeignKey(ExternalApiConnection, on_delete=models.CASCADE, related_name="grant_events")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=40)
    cause = models.CharField(max_length=40)
    outcome = models.CharField(max_length=20)
    message = models.TextField(blank=True)
    actor = models.CharField(max_length=200, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    mail_due = models.BooleanField(default=False)
    mail_claimed_until = models.DateTimeField(null=True, blank=True, help_text="Until then somebody is sending it.")

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["connection", "-id"], name="grant_event_by_connection"),
            models.Index(fields=["id"], condition=Q(mail_due=True), name="grant_event_mail_due"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.outcome}"
