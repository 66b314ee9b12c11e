"""Affiliates, who bring customers for a commission, and the ledger of what they are owed."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from external_apis.backoffice.models.currencies import CURRENCY_CODE
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Account, Tenant
from external_apis.models.base import SoftDeleted, Timestamped

ALL_OF_IT = 10_000
"""Basis points: hundredths of a per cent."""


class AffiliateStatus(models.TextChoices):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    """Earns nothing and may not ask for a withdrawal."""


class Affiliate(SoftDeleted, Timestamped):
    """Has one currency; ``balance_minor`` is in its minor unit (cents) and is always the sum of its ledger.

    A deleted one is gone for everybody and stays in the table: its withdrawals are accounts of money, and its code is
    still in links that it gave away.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "aff"), editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="affiliates", db_index=False
    )
    account = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, blank=True, related_name="affiliates")
    code = models.SlugField(max_length=50, db_index=False)
    name = models.CharField(max_length=200)
    email = models.EmailField(max_length=254)
    commission_basis_points = models.PositiveIntegerField(validators=[MaxValueValidator(ALL_OF_IT)])
    referrals = models.BigIntegerField(default=0, editable=False)
    balance_minor = models.BigIntegerField(default=0, editable=False)
    currency = models.CharField(max_length=3, validators=[CURRENCY_CODE])
    status = models.CharField(max_length=9, choices=AffiliateStatus.choices, default=AffiliateStatus.ACTIVE)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints = (
            models.UniqueConstraint(fields=["tenant", "code"], name="affiliate_code_unique", nulls_distinct=False),
            models.CheckConstraint(condition=Q(balance_minor__gte=0), name="affiliate_balance_not_negative"),
            models.CheckConstraint(
                condition=Q(commission_basis_points__lte=ALL_OF_IT), name="affiliate_commission_at_most_all"
            ),
        )
        indexes = (
            models.Index(fields=["tenant", "-id"], condition=Q(deleted_at=None), name="affiliate_list_of_tenant"),
            models.Index(fields=["status", "-id"], condition=Q(deleted_at=None), name="affiliate_list_by_status"),
        )

    def __str__(self) -> str:
        return self.code


class EntryKind(models.TextChoices):
    COMMISSION = "commission"
    """Earned."""
    RESERVED = "reserved"
    """Taken out for a withdrawal that was asked for."""
    RETURNED = "returned"
    """Put back because that was rejected."""


class AffiliateEntry(models.Model):
    """One change of a balance: ``amount_minor`` is negative where it was taken out. Never changed or deleted.

    ``reference`` names the sale that a commission is for, and is credited once.
    """

    affiliate = models.ForeignKey(Affiliate, on_delete=models.PROTECT, related_name="entries", db_index=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    withdrawal = models.ForeignKey(
        "backoffice.Withdrawal", on_delete=models.PROTECT, null=True, blank=True, related_name="entries"
    )
    kind = models.CharField(max_length=10, choices=EntryKind.choices)
    amount_minor = models.BigIntegerField()
    reference = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "affiliate entries"
        ordering: ClassVar = ["-id"]
        constraints = (
            models.UniqueConstraint(
                fields=["affiliate", "reference"], condition=~Q(reference=""), name="affiliate_commission_once"
            ),
        )
        indexes = (models.Index(fields=["affiliate", "-id"], name="affiliate_entry_latest"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_minor}"
