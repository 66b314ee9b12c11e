"""What users wish for, and who wishes it too."""

from __future__ import annotations

from functools import partial

from django.db import models

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant
from external_apis.models.base import Timestamped


class FeatureStatus(models.TextChoices):
    OPEN = "open"
    PLANNED = "planned"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    DECLINED = "declined"


class FeatureRequest(Timestamped):
    """``votes`` is the number of its `FeatureVote` rows, kept in the transaction of each."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "fr"), editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="feature_requests", db_index=False
    )
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    status = models.CharField(max_length=16, choices=FeatureStatus.choices, default=FeatureStatus.OPEN)
    votes = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ("-votes", "-id")
        indexes = (
            models.Index(fields=["-votes", "-id"], name="feature_by_votes"),
            models.Index(fields=["tenant", "-votes", "-id"], name="feature_of_tenant"),
        )

    def __str__(self) -> str:
        return self.title


class FeatureVote(models.Model):
    """One voter's vote for one request."""

    feature_request = models.ForeignKey(FeatureRequest, on_delete=models.CASCADE, related_name="cast_votes")
    # Its request's, and gone with that: nothing looks for votes by their tenant.
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, null=True, related_name="+", db_index=False, db_constraint=False
    )
    voter = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["feature_request", "voter"], name="feature_vote_once"),)

    def __str__(self) -> str:
        return f"{self.voter} for {self.feature_request_id}"
