"""Affiliates: make, change, find and delete them; note whom they brought and what they earned by it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt

from external_apis import audit, tenants
from external_apis.backoffice.affiliate_ledger import MOST_MINOR, OPEN, book_commission
from external_apis.backoffice.models import Affiliate, AffiliateEntry, AffiliateStatus, Withdrawal
from external_apis.backoffice.models.affiliates import ALL_OF_IT
from external_apis.errors import Conflict, InvalidInput, NotFound
from external_apis.ids import can_name
from external_apis.models import Account
from external_apis.provider_input import Name, RowId, Slug, read_body
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "AffiliateChanges",
    "AffiliateInput",
    "create_affiliate",
    "delete_affiliate",
    "earn_commission",
    "find_affiliate",
    "owed_affiliates",
    "record_referral",
    "search_affiliates",
    "update_affiliate",
    "visible_affiliates",
]


def _email(value: str) -> str:
    try:
        validate_email(value)
    except ValidationError:
        raise ValueError("is not an e-mail address") from None
    return value


Code = Annotated[Slug, Field(max_length=50)]
Email = Annotated[str, Field(max_length=254), AfterValidator(_email)]
BasisPoints = Annotated[StrictInt, Field(ge=0, le=ALL_OF_IT)]


class AffiliateChanges(BaseModel):
    """What may be changed of an affiliate: neither its currency nor its tenant, which its money is of."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    code: Code = ""
    name: Name = ""
    email: Email = ""
    commission_basis_points: BasisPoints = 0
    """Hundredths of a per cent of a sale."""
    status: AffiliateStatus = AffiliateStatus.ACTIVE
    user_id: RowId | None = None
    """The id of an account of the same tenant."""


class AffiliateInput(AffiliateChanges):
    """What makes one."""

    code: Code
    name: Name
    email: Email
    commission_basis_points: BasisPoints
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    tenant_id: RowId | None = None


def visible_affiliates(scope: Scope = EVERYTHING) -> QuerySet[Affiliate]:
    """Return those that somebody of this scope sees, which are not deleted; the sandbox has none."""
    rows = Affiliate.objects.filter(deleted_at=None)
    return rows.none() if scope.is_sandbox else scope.own(rows)


def search_affiliates(
    scope: Scope = EVERYTHING, *, search: str = "", status: AffiliateStatus | None = None
) -> QuerySet[Affiliate]:
    """Return those with a status, and with a text in their code, name or address; the newest first."""
    rows = visible_affiliates(scope)
    if status is not None:
        rows = rows.filter(status=status)
    if search:
        rows = rows.filter(Q(code__icontains=search) | Q(name__icontains=search) | Q(email__icontains=search))
    return rows


def find_affiliate(affiliate_id: str, scope: Scope = EVERYTHING) -> Affiliate:
    """Return one by its id. Raises `NotFound`."""
    row = visible_affiliates(scope).filter(pk=affiliate_id).first() if can_name(affiliate_id) else None
    if row is None:
        raise NotFound(f"Affiliate {ascii(affiliate_id)[1:-1]} not found")
    return row


def create_affiliate(data: Mapping[str, Any], scope: Scope = EVERYTHING) -> Affiliate:
    """Store an affiliate with an empty balance. Raises `InvalidInput`, `NotFound`, and `Conflict` for a code in use."""
    given = read_body(AffiliateInput, data).model_dump()
    tenant_id, user_id = given.pop("tenant_id") or scope.tenant_id, given.pop("user_id")
    tenant = tenants.find_tenant(tenant_id, scope) if tenant_id else None
    return _store(Affiliate(**given, tenant=tenant, account=_account(user_id, tenant_id)), None)


def update_affiliate(row: Affiliate, data: Mapping[str, Any]) -> Affiliate:
    """Change what is given. Raises `InvalidInput`, `NotFound`, and `Conflict` for a code in use."""
    given = read_body(AffiliateChanges, data).model_dump(exclude_unset=True)
    with transaction.atomic():
        row = _held(row)
        before = copy(row)
        if "user_id" in given:
            row.account = _account(given.pop("user_id"), row.tenant_id)
        for name, value in given.items():
            setattr(row, name, value)
        return _store(row, before)


def delete_affiliate(row: Affiliate) -> None:
    """Take an affiliate away for good; what it was paid stays on record.

    Raises `Conflict` while it is owed something: its details tell the balance and how many withdrawals are open.
    """
    with transaction.atomic():
        row = _held(row)
        withdrawals = Withdrawal.objects.filter(affiliate=row, status__in=OPEN).count()
        if row.balance_minor or withdrawals:
            owed = {"balanceMinor": row.balance_minor, "currency": row.currency, "openWithdrawals": withdrawals}
            raise Conflict(f"The affiliate {row.code} is still owed something.", details=owed)
        row.deleted_at, row.account = timezone.now(), None
        row.save(update_fields=["deleted_at", "account", "updated_at"])
        audit.record("affiliate.deleted", row, {"code": [row.code, None], "name": [row.name, None]})


def owed_affiliates(rows: QuerySet[Affiliate]) -> QuerySet[Affiliate]:
    """Return those of the rows who have a balance or an open withdrawal, and so cannot be deleted."""
    is_open = Withdrawal.objects.filter(affiliate=OuterRef("pk"), status__in=OPEN)
    return rows.filter(Q(balance_minor__gt=0) | Exists(is_open))


def record_referral(code: str, *, tenant_id: str | None = None) -> Affiliate:
    """Count somebody who came by an affiliate's code. Raises `NotFound` where nobody active of the tenant has it."""
    rows = Affiliate.objects.filter(
        code=code if can_name(code) else "", tenant_id=tenant_id, deleted_at=None, status=AffiliateStatus.ACTIVE
    )
    with transaction.atomic():
        row = rows.select_for_update(no_key=True).first()
        if row is None:
            raise NotFound(f"No affiliate has the code {ascii(code)[1:51]}")
        rows.update(referrals=F("referrals") + 1)
        row.referrals += 1
        audit.record("affiliate.referred", row, {"referrals": [row.referrals - 1, row.referrals]})
    return row


def earn_commission(affiliate: Affiliate, sale_minor: int, currency: str, *, reference: str = "") -> AffiliateEntry:
    """Credit the affiliate's share of a sale, rounded down to the minor unit.

    ``reference`` names the sale: the same one again credits nothing and returns the first entry. Raises `InvalidInput`
    for another currency than the affiliate's or an amount below 0, `Conflict` for one who is suspended or deleted.
    """
    if currency != affiliate.currency:
        raise InvalidInput.of("currency", f"is not the affiliate's, {affiliate.currency}")
    if not 0 <= sale_minor <= MOST_MINOR:
        raise InvalidInput.of("sale_minor", f"is not between 0 and {MOST_MINOR}")
    if not can_name(reference) or len(reference) > 100:
        raise InvalidInput.of("reference", "is no text of up to 100 characters")
    with transaction.atomic():
        affiliate = _held(affiliate)
        kept = AffiliateEntry.objects.filter(affiliate=affiliate, reference=reference).first() if reference else None
        if kept is not None:
            return kept
        before = affiliate.balance_minor
        amount = sale_minor * affiliate.commission_basis_points // ALL_OF_IT
        entry = book_commission(affiliate, amount, reference)
        audit.record("affiliate.commission_earned", affiliate, {"balance_minor": [before, affiliate.balance_minor]})
    return entry


def _held(row: Affiliate) -> Affiliate:
    """Return the row as it is now, and held until the transaction ends. Raises `NotFound` for one deleted meanwhile."""
    held = Affiliate.objects.select_for_update(no_key=True).filter(pk=row.pk, deleted_at=None).first()
    if held is None:
        raise NotFound(f"Affiliate {row.pk} not found")
    return held


def _account(user_id: str | None, tenant_id: str | None) -> Account | None:
    if user_id is None:
        return None
    account = Account.objects.filter(pk=user_id, tenant_id=tenant_id).first()
    if account is None:
        raise InvalidInput.of("user_id", "names no user of the same tenant")
    return account


def _store(row: Affiliate, before: Affiliate | None) -> Affiliate:
    try:
        with transaction.atomic():
            row.save()
            verb = "created" if before is None else "updated"
            audit.record(f"affiliate.{verb}", row, audit.changed_fields(row, before))
    except IntegrityError:
        raise Conflict(f"The code {row.code} is, or was, another affiliate's.") from None
    return row
