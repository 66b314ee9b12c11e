"""Withdrawals: ask for one, and decide it. What is asked for is out of the balance from then on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from external_apis import audit, request_context
from external_apis.backoffice.affiliate_ledger import MOST_MINOR, reserve, return_reserved
from external_apis.backoffice.models import Affiliate, Withdrawal, WithdrawalStatus
from external_apis.errors import Conflict, InvalidInput, NotFound
from external_apis.ids import can_name
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "TRANSITIONS",
    "decide_withdrawal",
    "find_withdrawal",
    "request_withdrawal",
    "search_withdrawals",
    "visible_withdrawals",
]

TRANSITIONS: Mapping[WithdrawalStatus, tuple[WithdrawalStatus, ...]] = MappingProxyType(
    {
        WithdrawalStatus.PENDING: (WithdrawalStatus.APPROVED, WithdrawalStatus.REJECTED),
        WithdrawalStatus.APPROVED: (WithdrawalStatus.PAID, WithdrawalStatus.REJECTED),
        WithdrawalStatus.PAID: (),
        WithdrawalStatus.REJECTED: (),
    }
)
"""What may follow a status. From paid and rejected there is no way back."""


def visible_withdrawals(scope: Scope = EVERYTHING) -> QuerySet[Withdrawal]:
    """Return those that somebody of this scope sees, with their affiliates; the sandbox has none."""
    rows = Withdrawal.objects.select_related("affiliate")
    return rows.none() if scope.is_sandbox else scope.own(rows)


def search_withdrawals(
    scope: Scope = EVERYTHING, *, search: str = "", status: WithdrawalStatus | None = None
) -> QuerySet[Withdrawal]:
    """Return those with a status and with a text in the affiliate's code, name or address; the newest first."""
    rows = visible_withdrawals(scope)
    if status is not None:
        rows = rows.filter(status=status)
    if search:
        texts = ("code", "name", "email")
        found = Q(pk=search)
        for text in texts:
            found |= Q(**{f"affiliate__{text}__icontains": search})
        rows = rows.filter(found)
    return rows


def find_withdrawal(withdrawal_id: str, scope: Scope = EVERYTHING) -> Withdrawal:
    """Return one by its id. Raises `NotFound`."""
    row = visible_withdrawals(scope).filter(pk=withdrawal_id).first() if can_name(withdrawal_id) else None
    if row is None:
        raise NotFound(f"Withdrawal {ascii(withdrawal_id)[1:-1]} not found")
    return row


def request_withdrawal(affiliate: Affiliate, amount_minor: int, currency: str) -> Withdrawal:
    """Ask for a part of the balance, which is reserved in the same transaction.

    Raises `InvalidInput` for another currency than the affiliate's or an amount below 1, and `Conflict` for more than
    the balance, or for an affiliate that is suspended or deleted.
    """
    if currency != affiliate.currency:
        raise InvalidInput.of("currency", f"is not the affiliate's, {affiliate.currency}")
    if not 1 <= amount_minor <= MOST_MINOR:
        raise InvalidInput.of("amount_minor", f"is not between 1 and {MOST_MINOR}")
    row = Withdrawal(
        tenant_id=affiliate.tenant_id, affiliate=affiliate, amount_minor=amount_minor, currency=affiliate.currency
    )
    with transaction.atomic():
        row.save(force_insert=True)
        reserve(row)
        audit.record("withdrawal.requested", row, audit.changed_fields(row))
    return row


def decide_withdrawal(
    row: Withdrawal, status: WithdrawalStatus, expected: WithdrawalStatus | None = None
) -> Withdrawal:
    """Move a withdrawal on; what is rejected goes back into the balance in the same transaction.

    ``expected`` is its status as whoever decides knows it; unless given the first one that ``status`` may follow, so
    that an approved one is rejected by those alone who say that it is approved. Of several who decide about the same
    status at once, whatever they decide, one therefore does. Raises `Conflict` for whoever comes too late, and for a
    status that cannot follow, the same one among them; its details tell the present one and those that may follow.
    """
    with transaction.atomic():
        rows = Withdrawal.objects.filter(pk=row.pk)
        was = WithdrawalStatus(rows.select_for_update().values_list("status", flat=True).get())
        if status not in TRANSITIONS[was]:
            raise _refusal(row, was, f"cannot become {status.value}")
        known = expected or next(present for present, following in TRANSITIONS.items() if status in following)
        if was != known:
            raise _refusal(row, was, f"{known.value} was expected")
        now, actor = timezone.now(), request_context.current().actor or "system"
        rows.update(status=status, decided_at=now, decided_by=actor, updated_at=now)
        row = Withdrawal.objects.select_related("affiliate").get(pk=row.pk)
        if status == WithdrawalStatus.REJECTED:
            return_reserved(row)
        audit.record(f"withdrawal.{status.value}", row, {"status": [was.value, status.value]})
    return row


def _refusal(row: Withdrawal, was: WithdrawalStatus, reason: str) -> Conflict:
    allowed = [following.value for following in TRANSITIONS[was]]
    return Conflict(
        f"The withdrawal {row.pk} is {was.value}, and {reason}.", details={"status": was.value, "allowed": allowed}
    )
