"""Bind a user to another tenant, or to none, where that leaves nothing behind."""

from __future__ import annotations

from django.db import transaction

from external_apis.backoffice import owners, plans
from external_apis.backoffice.user_dependents import has_foreign_ones
from external_apis.errors import Conflict
from external_apis.models import Account, Tenant

__all__ = ["move_user"]


def move_user(account: Account, tenant: Tenant | None) -> Account:
    """Give an account to a tenant, as `plans.move_account` does.

    Raises `Conflict` for the last staff of the tenant that it has, and while rows depend on it that the other tenant
    does not have: they would be its own no longer.
    """
    tenant_id = None if tenant is None else tenant.pk
    with transaction.atomic():
        (account,) = owners.hold(account)
        if owners.owned(account.user, account.tenant_id) != owners.owned(account.user, tenant_id):
            owners.require_another(account)
        if has_foreign_ones(account, tenant_id):
            raise Conflict(f"On the user {account.pk} depend rows that are not the other tenant's.")
        return plans.move_account(account, tenant)
