"""Affiliates and withdrawals for tests, made through their services."""

from __future__ import annotations

import itertools
from typing import Any

from external_apis.backoffice.affiliates import create_affiliate, earn_commission
from external_apis.backoffice.models import Affiliate, Withdrawal
from external_apis.backoffice.withdrawals import request_withdrawal
from external_apis.models import Tenant

__all__ = ["make_affiliate", "make_withdrawal"]

_numbers = itertools.count(1)


def make_affiliate(tenant: Tenant | None = None, *, balance: int = 0, **fields: Any) -> Affiliate:
    """One who gets all of a sale, in euros; ``balance`` is earned in one sale."""
    code = f"ann-{next(_numbers)}"
    body = {"code": code, "name": "Ann", "email": f"{code}@example.com", "commission_basis_points": 10_000}
    if tenant is not None:
        body["tenant_id"] = tenant.pk
    row = create_affiliate({**body, "currency": "EUR", **fields})
    if balance:
        earn_commission(row, balance, row.currency)
    return Affiliate.objects.get(pk=row.pk)


def make_withdrawal(tenant: Tenant | None = None, amount: int = 500, *, left: int = 0) -> Withdrawal:
    """A pending one of all that the affiliate has but ``left``."""
    row = make_affiliate(tenant, balance=amount + left)
    return request_withdrawal(row, amount, row.currency)
