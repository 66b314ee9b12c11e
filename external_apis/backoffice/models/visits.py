"""Sums of visits to public pages. Nothing of a single visit is stored: no address, no cookie, no time of its own."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from external_apis.ids import MAX_LENGTH
from external_apis.models import Tenant


class VisitKind(models.TextChoices):
    """What a sum is by."""

    TOTAL = "total"
    PATH = "path"
    REFERRER = "referrer"


class VisitSum(models.Model):
    """Visits to one tenant's pages, or to the installation's, in one unit of time; ``name`` is the path or the host.

    They go with the tenant, and are nothing that keeps it.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    kind = models.CharField(max_length=8, choices=VisitKind.choices)
    name = models.CharField(max_length=200, blank=True, default="")
    grain = models.CharField(max_length=8)
    """One of `periods.Grain`."""
    starts_at = models.DateTimeField()
    visits = models.BigIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["kind", "grain", "starts_at", "tenant", "name"], name="visit_sum_unique", nulls_distinct=False
            ),
        )
        indexes = (
            models.Index(fields=["tenant", "kind", "grain", "starts_at"], name="visit_sum_of_tenant"),
            models.Index(fields=["starts_at"], name="visit_sum_old"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.grain} {self.starts_at}"


class VisitBatch(models.Model):
    """A batch of counts that is in the sums; one that comes again is left alone."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH)
    applied_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.id
