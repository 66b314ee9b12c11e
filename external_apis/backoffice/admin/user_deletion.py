"""What the pages of users and of accounts share: both delete a user as the API does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_permission_codename, get_user_model
from django.http import HttpRequest

from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.user_columns import is_
from external_apis.backoffice.user_deletion import delete_user
from external_apis.backoffice.user_dependents import count_dependents, has_foreign_ones
from external_apis.models import Account
from external_apis.tenancy import scope_of
from external_apis.user_accounts import account_of


class DeletesUsers(ShowsRefusals):
    """Goes before a ``ModelAdmin`` of users or of their accounts."""

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Name the users and, as in the way, what depends on them; what is theirs alone goes along unnamed."""
        accounts = [_account(row) for row in objs]
        kept: Counter[str] = Counter()
        for account in accounts:
            kept.update(count_dependents(account, scope_of(request.user)))
        named = [f"{account} ({account.pk})" for account in accounts]
        in_the_way = [f"{count} {kind}" for kind, count in sorted(kept.items())]
        if any(has_foreign_ones(account, account.tenant_id) for account in accounts):
            in_the_way.append("rows of others")
        refused = {"superuser"} if any(not may_act_on(request, account) for account in accounts) else set()
        return named, {"users": len(accounts)}, refused, in_the_way

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        delete_user(_account(obj), scope=scope_of(request.user))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            self.delete_model(request, row)


def may_act_on(request: HttpRequest, account: Account) -> bool:
    return is_(request.user, "is_superuser") or not is_(account.user, "is_superuser")


def may_delete(request: HttpRequest, row: Any = None) -> bool:
    """From whichever page, it is a user of Django's who goes; superusers are for superusers alone to delete."""
    options = get_user_model()._meta
    permission = f"{options.app_label}.{get_permission_codename('delete', options)}"
    return request.user.has_perm(permission) and (row is None or may_act_on(request, _account(row)))


def _account(row: Any) -> Account:
    return row if isinstance(row, Account) else account_of(row)
