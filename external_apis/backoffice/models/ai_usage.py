"""What calls of AI models used: single calls until they are rolled up, and sums of quarters up to months."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from external_apis.ids import MAX_LENGTH
from external_apis.models import Tenant


class AiDimension(models.TextChoices):
    """What a sum is of."""

    INSTALLATION = "installation"
    """All calls of all tenants."""
    TOTAL = "total"
    """All calls of a tenant."""
    MODEL = "model"
    USER = "user"
    CONNECTION = "connection"


class _Tokens(models.Model):
    """Counts of tokens; of a call whose answer told none they are 0."""

    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    total_tokens = models.BigIntegerField(default=0)

    class Meta:
        abstract = True


class AiCall(_Tokens):
    """One call, which the roll-up deletes as it adds it to the sums. Ids are no foreign keys: statistics outlive rows.

    ``tenant`` is the user's where one is named, and the model's otherwise; ``account_id`` is empty without one.
    """

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    at = models.DateTimeField(default=timezone.now)
    model_id = models.CharField(max_length=MAX_LENGTH)
    account_id = models.CharField(max_length=MAX_LENGTH, blank=True, default="")
    connection_id = models.CharField(max_length=MAX_LENGTH)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.model_id} {self.at:%Y-%m-%d %H:%M}"


class AiUsageSum(_Tokens):
    """All calls of a grain's time (see `periods.Grain`) of one model, user or connection, or of all of them."""

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    dimension = models.CharField(max_length=12, choices=AiDimension.choices)
    subject = models.CharField(max_length=MAX_LENGTH, blank=True, default="")
    grain = models.CharField(max_length=8)
    starts_at = models.DateTimeField()
    calls = models.BigIntegerField(default=0)

    class Meta:
        constraints = (
            # The first one is a tenant's way to its sums as well.
            models.UniqueConstraint(
                fields=["tenant", "dimension", "grain", "starts_at", "subject"],
                name="ai_usage_sum_unique",
                nulls_distinct=False,
            ),
        )
        indexes = (
            models.Index(fields=["dimension", "grain", "starts_at"], name="ai_usage_sum_of_all"),
            models.Index(fields=["dimension", "subject", "grain", "starts_at"], name="ai_usage_sum_of_one"),
        )

    def __str__(self) -> str:
        return f"{self.dimension} {self.subject} {self.starts_at:%Y-%m-%d %H:%M}"
