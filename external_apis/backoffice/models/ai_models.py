"""AI models that are offered, in the order in which they are shown."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from django.db import models

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant
from external_apis.models.base import Timestamped


class AiModel(Timestamped):
    """``name`` is what the provider calls it. ``order`` counts among the models of its tenant.

    ``provider`` and ``connection`` are ids or slugs and no foreign keys: connections are of the floor above. What they
    name is looked up at a call, among what the model's own tenant has.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "aim"), editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    name = models.CharField(max_length=200)
    label = models.CharField(max_length=200)
    tier = models.CharField(max_length=50, blank=True, default="")
    supports_media = models.BooleanField(default=False)
    order = models.PositiveIntegerField(editable=False)
    enabled = models.BooleanField(default=True)
    provider = models.CharField(max_length=100, blank=True, default="")
    connection = models.CharField(max_length=201, blank=True, default="")

    class Meta:
        verbose_name = "AI model"
        ordering: ClassVar = ["order", "id"]
        constraints = (
            models.UniqueConstraint(fields=["tenant", "name"], name="ai_model_name_unique", nulls_distinct=False),
            # Looked at when a statement has ended: a new order gives one's place to another before that one moves.
            models.UniqueConstraint(
                fields=["tenant", "order"],
                name="ai_model_place_unique",
                nulls_distinct=False,
                deferrable=models.Deferrable.IMMEDIATE,
            ),
        )
        indexes = (models.Index(fields=["order", "id"], name="ai_model_in_order"),)

    def __str__(self) -> str:
        return self.label
