"""Whom somebody sees among the users, and how they are looked for by name, e-mail address and id."""

from __future__ import annotations

from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.db.models import F, Func, QuerySet, TextField, Value
from django.db.models.functions import Upper

from external_apis.backoffice.user_columns import has_column, is_, those_who_are
from external_apis.errors import Forbidden, NotFound
from external_apis.ids import can_name
from external_apis.models import Account
from external_apis.tenancy import Scope

__all__ = [
    "COUNTED_AT_MOST",
    "Status",
    "filtered",
    "find_user",
    "require_superuser",
    "searched_fields",
    "visible_users",
]

_FEW = 500
"""So many that match are named to the database one by one. Where there are more, it soon meets enough for a page."""

Status = Literal["active", "inactive"]

COUNTED_AT_MOST = 1_000
"""Of longer lists the total is the planner's estimate: counting all that match costs more than showing a page."""


class _Texts(Func):
    """The columns as one text in capitals, each after a blank: letter by letter what external_apis 0009 indexes.

    Literals stand in the template: as parameters they would make another expression than the index's.
    """

    template = "UPPER(' ' || COALESCE(%(expressions)s, ''))"
    arg_joiner = ", '') || ' ' || COALESCE("
    output_field = TextField()


def visible_users(scope: Scope) -> QuerySet[Account]:
    """The accounts that somebody of this scope sees, newest first; the sandbox has none.

    A superuser is bound to no tenant and is none of its users, whatever tenant the account names.
    """
    rows = Account.objects.select_related("user", "tenant").order_by("-id")
    if scope.is_sandbox:
        return rows.none()
    return rows if scope.tenant_id is None else scope.own(rows).filter(those_who_are(is_superuser=False))


def find_user(account_id: str, scope: Scope) -> Account:
    """Return an account of the scope, with its user. Raises `NotFound`."""
    account = visible_users(scope).filter(pk=account_id).first() if can_name(account_id) else None
    if account is None:
        raise NotFound(f"User {ascii(account_id)[1:-1]} not found")
    return account


def require_superuser(account: Account, *, asker_is_one: bool) -> None:
    """Raise `Forbidden` for whoever would change a superuser without being one."""
    if is_(account.user, "is_superuser") and not asker_is_one:
        raise Forbidden("Superusers are changed by superusers, and by keys of the whole installation with the scope *.")


def filtered(rows: QuerySet[Account], *, search: str = "", status: Status | None = None, plan: str = "") -> Any:
    """Return those of a status and on a plan that match a search."""
    if status is not None:
        rows = rows.filter(those_who_are(is_active=status == "active"))
    if plan:
        rows = rows.filter(plan=plan)
    return _search(rows, search) if search else rows


def _search(rows: QuerySet[Account], text: str) -> QuerySet[Account]:
    """Return those with ``text`` in a name or the address, or with it as their id.

    One or two characters, of which there are no trigrams, are looked for where a word begins. A text without a letter
    or a digit has none either, and finds nobody.
    """
    if not any(character.isalnum() for character in text):
        return rows.none()
    if text.startswith("user_") and rows.filter(pk=text).exists():
        return rows.filter(pk=text)
    # Capitals are the database's own on both sides: Python makes two letters of some.
    wanted = Upper(Value(text if len(text) > 2 else f" {text}"))
    # The few that match are looked up first: joined with their accounts, the planner now and then reads all of those.
    users = _having(get_user_model()._base_manager.order_by(), "", wanted)
    few = list(users.values_list("pk", flat=True)[: _FEW + 1])
    return rows.filter(user__in=few) if len(few) <= _FEW else _having(rows, "user__", wanted)


def _having(rows: QuerySet[Any], prefix: str, wanted: Upper) -> QuerySet[Any]:
    fields = (F(f"{prefix}{name}") for name in searched_fields())
    found: QuerySet[Any] = rows.alias(searched=_Texts(*fields)).filter(searched__contains=wanted)
    return found


def searched_fields() -> list[str]:
    """The columns of the project's own user model that hold names and an address."""
    user: Any = get_user_model()
    names = dict.fromkeys((user.USERNAME_FIELD, "first_name", "last_name", user.get_email_field_name()))
    return list(filter(has_column, names))
