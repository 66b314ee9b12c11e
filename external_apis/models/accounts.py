"""The product's own facts about a user, beside whatever user model the project has."""

from __future__ import annotations

from functools import partial

from django.conf import settings
from django.db import models

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models.base import Timestamped
from external_apis.models.tenants import Tenant


class Account(Timestamped):
    """One-to-one with the user; without a tenant the user's rights are not bound to one."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "user"), editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="external_apis_account"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="accounts")
    plan = models.CharField(max_length=50, blank=True, default="")
    tokens = models.BigIntegerField(default=0)

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(tokens__gte=0), name="account_tokens_not_negative"),)
        indexes = (
            models.Index(fields=["tenant", "-id"], name="account_by_tenant"),
            models.Index(fields=["plan", "-id"], name="account_by_plan"),
        )

    def __str__(self) -> str:
        return str(self.user)
