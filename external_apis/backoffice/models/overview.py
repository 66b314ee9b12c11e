"""What the overview and the resources are told from: sums and counts over time, made as things happen."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from external_apis.models import Tenant


class OverviewSum(models.Model):
    """What came together of a figure (``calls``, ``errors``, ``revenue:EUR``) in a grain's time (see `periods.Grain`).

    Each number is there twice: for its tenant, and with none for the whole installation, so that nobody adds up
    tenants to read it. Of revenue it is the price in minor units times seconds (see `revenue`).
    """

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    grain = models.CharField(max_length=8)  # one of `periods.Grain`
    starts_at = models.DateTimeField()
    figure = models.CharField(max_length=20)
    number = models.DecimalField(max_digits=40, decimal_places=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["tenant", "grain", "starts_at", "figure"], name="overview_sum_once", nulls_distinct=False
            ),
        )
        indexes = (models.Index(fields=["grain", "starts_at"], name="overview_sum_by_age"),)

    def __str__(self) -> str:
        return f"{self.figure} {self.grain} {self.starts_at:%Y-%m-%d %H:%M}"


class OverviewCount(models.Model):
    """How many there were (``users``, ``connections``) from ``since`` on, until the next row of the same tenant.

    With no tenant: of the whole installation.
    """

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    figure = models.CharField(max_length=20)
    since = models.DateTimeField()
    number = models.BigIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["tenant", "figure", "since"], name="overview_count_once", nulls_distinct=False
            ),
        )

    def __str__(self) -> str:
        return f"{self.figure} {self.since:%Y-%m-%d %H:%M}"


class OverviewMark(models.Model):
    """Up to when a figure has been summed up; whoever sums holds its row."""

    figure = models.CharField(max_length=20, primary_key=True)
    reached_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.figure


class ResourceSum(models.Model):
    """Samples of a resource that were taken in a grain's time (see `periods.Grain`)."""

    grain = models.CharField(max_length=8)  # one of `periods.Grain`
    starts_at = models.DateTimeField()
    figure = models.CharField(max_length=60)
    samples = models.BigIntegerField()
    lowest = models.FloatField()
    highest = models.FloatField()
    total = models.FloatField()

    class Meta:
        ordering: ClassVar = ["grain", "starts_at", "figure"]
        constraints = (models.UniqueConstraint(fields=["grain", "starts_at", "figure"], name="resource_sum_once"),)

    def __str__(self) -> str:
        return f"{self.figure} {self.grain} {self.starts_at:%Y-%m-%d %H:%M}"
