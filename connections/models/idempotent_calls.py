"""Calls that came with an idempotency key, and what they were answered."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.utils import timezone

from connections.models.connections import ExternalApiConnection
from external_apis.fields import SecretsField
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant


class IdempotentCall(models.Model):
    """One key of one caller for one connection; the row says whether the call may be made.

    Whoever inserted it makes the call, and stores the answer as long as ``fence`` is still his. While ``finished_at``
    is null the call is under way until ``leased_until``, and in doubt from then on. ``answer`` holds ``head`` (JSON of
    status and headers) and ``body`` (base64), unless the answer was too long (``is_kept``).
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "idem"), editable=False)
    connection = models.ForeignKey(ExternalApiConnection, on_delete=models.CASCADE, related_name="+")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    caller = models.CharField(max_length=120)
    key_digest = models.CharField(max_length=64)
    request_digest = models.CharField(max_length=64)
    fence = models.CharField(max_length=MAX_LENGTH)
    leased_until = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    is_kept = models.BooleanField(default=True)
    answer = SecretsField(default=dict, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["connection", "caller", "key_digest"], name="idempotent_call_once"),
        )

    def __str__(self) -> str:
        return self.id
