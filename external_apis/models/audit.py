"""The audit log: one row for each change and for each reading of a secret."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.utils import timezone

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models.tenants import Tenant


class AuditEvent(models.Model):
    """Who did what to which object. ``changes`` holds ``{"field": [before, after]}``, of secrets keyed fingerprints.

    Rows are only ever inserted, and outlive what they tell of: a tenant's foreign key is not enforced. The id is
    ordered by time, so it is the order of the log.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "evt"), editable=False)
    at = models.DateTimeField(default=timezone.now)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, db_constraint=False, null=True, blank=True, related_name="+"
    )
    actor = models.CharField(max_length=200)
    api_key_id = models.CharField(max_length=MAX_LENGTH, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=100)
    changes = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["tenant", "-id"], name="audit_by_tenant"),
            models.Index(fields=["object_id", "-id"], name="audit_by_object"),
            models.Index(fields=["actor", "-id"], name="audit_by_actor"),
            models.Index(fields=["action", "-id"], name="audit_by_action"),
        )

    def __str__(self) -> str:
        return f"{self.action} {self.object_id}"
