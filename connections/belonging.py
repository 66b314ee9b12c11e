"""For whom a connection is: the tenant, partner and user that a body names, found within a scope."""

from __future__ import annotations

from external_apis import request_context
from external_apis.errors import InvalidInput, NotFound
from external_apis.models import Account, ExternalApi, Partner, Tenant
from external_apis.tenancy import Scope

__all__ = ["find_account", "find_owner", "find_partner", "find_tenant"]


def find_tenant(api: ExternalApi, tenant_id: str | None, scope: Scope) -> Tenant | None:
    """Return the tenant of a connection to ``api``: the one named, or the scope's, or the provider's own.

    Raises `NotFound` for one that the scope does not hold, `InvalidInput` for another one than the provider's.
    """
    tenant_id = tenant_id or scope.tenant_id or api.tenant_id
    if tenant_id is None:
        return None
    if scope.tenant_id not in (None, tenant_id):
        raise NotFound(f"Tenant {tenant_id} not found")
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        raise NotFound(f"Tenant {tenant_id} not found")
    if api.tenant_id not in (None, tenant_id):
        raise InvalidInput("A provider of one tenant takes no connection of another.")
    return tenant


def find_partner(api: ExternalApi, partner_id: str | None, tenant: Tenant | None) -> Partner | None:
    """Return the partner named, or the provider's own. Raises `NotFound` and `InvalidInput` as above."""
    partner_id = partner_id or api.partner_id
    if partner_id is None:
        return None
    partner = Partner.objects.filter(pk=partner_id).first()
    if partner is None or partner.tenant_id not in (None, tenant.pk if tenant else None):
        raise NotFound(f"Partner {partner_id} not found")
    if api.partner_id not in (None, partner_id):
        raise InvalidInput("A provider of one partner takes no connection of another.")
    return partner


def find_owner(account_id: str | None, scope: Scope) -> Account | None:
    """Return the account that looks after a new connection: the one named, or the acting user's, if there is one.

    Raises `NotFound` as `find_account` does.
    """
    if account_id is not None:
        return find_account(account_id, scope)
    user_id = request_context.current().user_id
    return None if user_id is None else Account.objects.filter(user_id=user_id).first()


def find_account(account_id: str | None, scope: Scope) -> Account | None:
    """Return the account named. Raises `NotFound` for one that the scope does not hold."""
    if account_id is None:
        return None
    account = scope.own(Account.objects.all()).filter(pk=account_id).first()
    if account is None:
        raise NotFound(f"User {account_id} not found")
    return account
