"""Changes balances of affiliates, each change with its row in the ledger: both are kept, or neither."""

from __future__ import annotations

from django.db.models import F, Sum

from external_apis.backoffice.models import (
    Affiliate,
    AffiliateEntry,
    AffiliateStatus,
    EntryKind,
    Withdrawal,
    WithdrawalStatus,
)
from external_apis.backoffice.models.plans import MOST_TOKENS
from external_apis.errors import Conflict

__all__ = ["MOST_MINOR", "OPEN", "book_commission", "reserve", "return_reserved"]

MOST_MINOR = MOST_TOKENS
"""The largest amount, and the largest balance, in minor units: JavaScript reads it exactly."""

OPEN = (WithdrawalStatus.PENDING, WithdrawalStatus.APPROVED)
"""The amount of such a withdrawal may still come back into the balance."""


def book_commission(affiliate: Affiliate, amount_minor: int, reference: str) -> AffiliateEntry:
    """Add to the balance of somebody active. Raises `Conflict`; call it in a transaction that holds the affiliate."""
    open_ones = Withdrawal.objects.filter(affiliate=affiliate, status__in=OPEN)
    # Room is kept for what may come back: it could not be rejected otherwise.
    reserved = open_ones.aggregate(sum=Sum("amount_minor"))["sum"] or 0
    _change(affiliate, amount_minor, is_active=True, most=MOST_MINOR - reserved)
    return _enter(affiliate, EntryKind.COMMISSION, amount_minor, reference=reference)


def reserve(withdrawal: Withdrawal) -> None:
    """Take a withdrawal's amount out of the balance of somebody active.

    Raises `Conflict`; call it inside a transaction.
    """
    _change(withdrawal.affiliate, -withdrawal.amount_minor, is_active=True)
    _enter(withdrawal.affiliate, EntryKind.RESERVED, -withdrawal.amount_minor, withdrawal=withdrawal)


def return_reserved(withdrawal: Withdrawal) -> None:
    """Put it back, whatever became of the affiliate meanwhile. Call it inside a transaction."""
    _change(withdrawal.affiliate, withdrawal.amount_minor, is_active=False)
    _enter(withdrawal.affiliate, EntryKind.RETURNED, withdrawal.amount_minor, withdrawal=withdrawal)


def _change(affiliate: Affiliate, amount_minor: int, *, is_active: bool, most: int = MOST_MINOR) -> None:
    """One conditional statement: of two that want the same money, one gets it."""
    rows = Affiliate.objects.filter(
        pk=affiliate.pk,
        deleted_at=None,
        balance_minor__gte=max(0, -amount_minor),
        balance_minor__lte=most - max(0, amount_minor),
    )
    if is_active:
        rows = rows.filter(status=AffiliateStatus.ACTIVE)
    changed = rows.update(balance_minor=F("balance_minor") + amount_minor)
    affiliate.refresh_from_db(fields=["balance_minor", "status", "deleted_at"])
    if changed != 1:
        raise _refusal(affiliate, is_active=is_active)


def _refusal(affiliate: Affiliate, *, is_active: bool) -> Conflict:
    if affiliate.is_deleted:
        return Conflict(f"The affiliate {affiliate.code} is deleted.")
    if is_active and affiliate.status != AffiliateStatus.ACTIVE:
        return Conflict(f"The affiliate {affiliate.code} is {affiliate.status}.", details={"status": affiliate.status})
    facts = {"balanceMinor": affiliate.balance_minor, "currency": affiliate.currency}
    return Conflict(f"The balance of {affiliate.code} does not allow it.", details=facts)


def _enter(
    affiliate: Affiliate,
    kind: EntryKind,
    amount_minor: int,
    *,
    withdrawal: Withdrawal | None = None,
    reference: str = "",
) -> AffiliateEntry:
    return AffiliateEntry.objects.create(
        affiliate=affiliate,
        tenant_id=affiliate.tenant_id,
        withdrawal=withdrawal,
        kind=kind,
        amount_minor=amount_minor,
        reference=reference,
    )
