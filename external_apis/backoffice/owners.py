"""The last owner stays one: of the installation an active superuser, of a tenant an active one of its staff."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet

from external_apis.backoffice.user_columns import has_column, is_, those_who_are
from external_apis.errors import Conflict, NotFound
from external_apis.models import Account

__all__ = ["hold", "owned", "require_another"]

_INSTALLATION = ""


def hold(*accounts: Account) -> list[Account]:
    """Return accounts as they are now: nobody changes them, or who owns their tenants, before this transaction ends.

    All are locked in one order, so that no two of those who do this wait for each other. Raises `NotFound` for one that
    has just gone.
    """
    wanted = {account.pk for account in accounts}
    staff = (_staff(account.tenant_id).values_list("pk", flat=True) for account in accounts if account.tenant_id)
    rows = Account.objects.filter(pk__in=wanted.union(*staff)).order_by("pk")
    list(rows.select_for_update().values_list("pk"))
    # Read only now: while it waited, those who were locked before may have changed the users.
    found = Account.objects.select_related("user", "tenant").in_bulk(wanted)
    if missing := wanted - found.keys():
        raise NotFound(f"User {min(missing)} not found")
    return [found[account.pk] for account in accounts]


def owned(user: Any, tenant_id: str | None) -> str | None:
    """Return what a user owns whose account is of a tenant: its id, "" for the installation, None for nothing.

    Where no column tells who owns something, nobody is known to be the last one.
    """
    if not is_(user, "is_active"):
        return None
    if has_column("is_superuser") and is_(user, "is_superuser"):
        return _INSTALLATION
    return tenant_id if has_column("is_staff") and is_(user, "is_staff") else None


def require_another(account: Account) -> None:
    """Raise `Conflict` where the user of an account that is held is the last owner of something."""
    what = owned(account.user, account.tenant_id)
    if what is None:
        return
    if what == _INSTALLATION:
        users: Any = get_user_model()._default_manager
        owners = users.filter(those_who_are("", is_superuser=True, is_active=True)).order_by("pk")
        if {user.pk for user in owners.select_for_update()} <= {account.user_id}:
            raise Conflict("This is the last active superuser of the installation, who stays.")
    elif not _staff(what).exclude(pk=account.pk).exists():
        raise Conflict("This is the last active staff account of its tenant, which stays.")


def _staff(tenant_id: str) -> QuerySet[Account]:
    return Account.objects.filter(those_who_are(is_staff=True, is_active=True, is_superuser=False), tenant_id=tenant_id)
