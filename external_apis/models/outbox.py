"""The outbox: what has happened and is to be told to others, written in the transaction in which it happens."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models.tenants import Tenant


class OutboxEvent(models.Model):
    """One event of `external_apis.event_types`; its id is the message's, the same for all receivers and attempts.

    ``data`` holds ids and facts, never a secret. A row that nobody wants to be told of is deleted when it is fanned
    out. As the audit log it outlives its tenant: that foreign key is not enforced.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "msg"), editable=False)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="+",
    )
    type = models.CharField(max_length=60)
    at = models.DateTimeField(default=timezone.now)
    data = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64, blank=True, help_text="What led to it.")
    fanned_out_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("id",)
        indexes = (
            # Each tenant's, and those of none, in their order.
            models.Index(
                Coalesce("tenant_id", Value("")),
                "id",
                condition=Q(fanned_out_at__isnull=True),
                name="outbox_to_fan_out",
            ),
        )

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
