"""What the pages of users and of accounts share: both delete a user as the API does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest

from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.user_deletion import delete_user, dependents
from external_apis.models import Account
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
            kept.update(dependents(account))
        named = [f"{account} ({account.pk})" for account in accounts]
        in_the_way = [f"{count} {kind}" for kind, count in sorted(kept.items())]
        return named, {"users": len(accounts)}, set(), in_the_way

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        delete_user(_account(obj))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            delete_user(_account(row))


def _account(row: Any) -> Account:
    return row if isinstance(row, Account) else account_of(row)
