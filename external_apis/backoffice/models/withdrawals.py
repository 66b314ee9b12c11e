"""Withdrawals: what affiliates ask to be paid of their balance."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from django.db import models
from django.db.models import Q

from external_apis.backoffice.models.affiliates import Affiliate
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant
from external_apis.models.base import Timestamped


class WithdrawalStatus(models.TextChoices):
    PENDING = "pending"
    APPROVED = "approved"
    PAID = "paid"
    REJECTED = "rejected"


class Withdrawal(Timestamped):
    """``amount_minor`` is in the minor unit of ``currency``, and out of the affiliate's balance from the request on.

    ``decided_by`` is who decided last, as `request_context.RequestContext.actor` names them.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "wdr"), editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="withdrawals", db_index=False
    )
    affiliate = models.ForeignKey(Affiliate, on_delete=models.PROTECT, related_name="withdrawals", db_index=False)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3, editable=False)
    status = models.CharField(
        max_length=8, choices=WithdrawalStatus.choices, default=WithdrawalStatus.PENDING, editable=False
    )
    decided_at = models.DateTimeField(null=True, blank=True, editable=False)
    decided_by = models.CharField(max_length=200, blank=True, default="", editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints = (models.CheckConstraint(condition=Q(amount_minor__gt=0), name="withdrawal_amount_positive"),)
        indexes = (
            models.Index(fields=["tenant", "-id"], name="withdrawal_list_of_tenant"),
            models.Index(fields=["status", "-id"], name="withdrawal_list_by_status"),
            models.Index(fields=["affiliate", "status"], name="withdrawal_of_affiliate"),
        )

    def __str__(self) -> str:
        return self.pk
