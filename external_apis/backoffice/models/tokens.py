"""The ledger of AI tokens: what changed an account's balance, and who did."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.utils import timezone

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Account, Tenant


class TokenOperation(models.TextChoices):
    SET = "set"
    ADD = "add"
    SUBTRACT = "subtract"
    PLAN = "plan", "allowance of a plan"


class TokenChange(models.Model):
    """One change of ``Account.tokens``, written in its transaction; rows are only ever inserted.

    They go with their account; the audit log keeps telling of them.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "tok"), editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="token_changes")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    operation = models.CharField(max_length=8, choices=TokenOperation.choices)
    before = models.BigIntegerField()
    after = models.BigIntegerField()
    delta = models.BigIntegerField()
    actor = models.CharField(max_length=200)
    request_id = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-at", "-id")
        indexes = (models.Index(fields=["account", "-at"], name="token_change_by_account"),)

    def __str__(self) -> str:
        return f"{self.delta:+d}"
