"""Whose accounts here their users are: by e-mail address or name, or by the key itself where both share one table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.db.models import Model

from connections.imports.addresses import folded, folding
from connections.imports.django_oauth.old_rows import OldUser
from connections.imports.runs import Imported
from external_apis import audit
from external_apis.models import Account, Tenant

__all__ = ["By", "Found", "Users"]

By = Literal["email", "username"]
_LONGEST_NAME, _LONGEST_EMAIL = 150, 254
_QUICKER = "its user's name was taken here a moment ago: repeat the import"
_SHARED = "its user shares an e-mail address with others there"


@dataclass(frozen=True)
class Found:
    """An account, or why there is none."""

    account: Account | None = None
    problem: str = ""


class Users:
    """Finds accounts a batch at a time. ``creates`` makes users who are not here: they can do nothing, and have no
    password. A user without an account gets one. ``trusts`` addresses also where allauth has not verified them."""

    def __init__(
        self, tenant: Tenant | None, *, by: By, creates: bool, is_own_database: bool, trusts: bool = False
    ) -> None:
        self._tenant, self._by, self._creates, self._trusts = tenant, by, creates, trusts
        self._model: Any = get_user_model()
        self._own_table = self._model._meta.db_table if is_own_database else None

    def find(self, users: Iterable[OldUser], known: Collection[str]) -> tuple[dict[OldUser, Found], list[Imported]]:
        """Return what each is here, and the users that were made; four queries, and a few more for those that are new.

        ``known`` are the keys (`source_key`) of those that an earlier import made: they are not made again.
        """
        wanted = list(dict.fromkeys(users))
        named = self._load(wanted)
        taken = self._by_email(wanted) if self._creates and self._by != "email" else {}
        answers: dict[OldUser, Found] = {}
        rows: dict[OldUser, Any] = {}
        made: dict[OldUser, Any] = {}
        for user in wanted:
            found = self._match(user, named)
            problem = found if isinstance(found, str) else self._problem(user, known, taken) if found is None else ""
            if problem:
                answers[user] = Found(problem=problem)
            elif found is None:
                made[user] = rows[user] = self._draft(user)
            else:
                rows[user] = found
        stored = self._store_users(made)
        for user in made.keys() - stored.keys():
            answers[user] = Found(problem=_QUICKER)
            del made[user], rows[user]
        accounts = self._store(rows, made)
        for user, row in rows.items():
            account = accounts.get(row.pk)
            answers[user] = Found(account, self._foreign(account))
        return answers, [Imported(source_key(user), row) for user, row in made.items()]

    def _is_ours(self, user: OldUser) -> bool:
        return user.table == self._own_table

    def _name(self, user: OldUser) -> tuple[str, str]:
        """Return what a user is found by: a column, and the value in it."""
        if self._is_ours(user):
            return "pk", user.id
        return ("email", folded(user.email)) if self._by == "email" else ("username", user.username)

    def _load(self, users: Collection[OldUser]) -> dict[tuple[str, str], list[Any]]:
        rows, field = self._model._default_manager.all(), self._model.USERNAME_FIELD
        grouped: dict[tuple[str, str], list[Any]] = {}
        if keys := [user.id for user in users if self._is_ours(user)]:
            grouped |= {("pk", str(row.pk)): [row] for row in rows.filter(pk__in=keys)}
        others = [user for user in users if not self._is_ours(user)]
        if others and self._by == "email":
            grouped |= self._by_email(others)
        elif others:
            names = {user.username for user in others} - {""}
            grouped |= {("username", getattr(row, field)): [row] for row in rows.filter(**{f"{field}__in": names})}
        return grouped

    def _by_email(self, users: Collection[OldUser]) -> dict[tuple[str, str], list[Any]]:
        address = folding(self._model.get_email_field_name())
        wanted = {folded(user.email) for user in users} - {""}
        grouped: dict[tuple[str, str], list[Any]] = {}
        for row in self._model._default_manager.annotate(folded=address).filter(folded__in=wanted):
            grouped.setdefault(("email", row.folded), []).append(row)
        return grouped

    def _match(self, user: OldUser, named: Mapping[tuple[str, str], list[Any]]) -> Model | str | None:
        """Return the user here, why it cannot be told, or None where there is none."""
        column, name = self._name(user)
        if not name:
            return "its user has no e-mail address there" if column == "email" else "its user has no name there"
        if column == "email":
            if not user.is_alone:
                return _SHARED
            if not user.is_verified and not self._trusts:
                return "its user's e-mail address is not verified there (--trust-emails takes it all the same)"
        rows = named.get((column, name), [])
        if len(rows) > 1:
            return "several users here have its user's e-mail address"
        return rows[0] if rows else None

    def _problem(self, user: OldUser, known: Collection[str], taken: Collection[tuple[str, str]]) -> str:
        """Tell why a user who is not here is not made; ``taken`` are addresses of those who are."""
        if not self._creates:
            what = "e-mail address" if self._by == "email" else "name"
            return f"its user is not here: nobody has the same {what} (--create-users makes them)"
        if not user.is_alone:
            return _SHARED
        if ("email", folded(user.email)) in taken:
            return "its user is not here, but somebody else with the same e-mail address"
        if len(user.email) > _LONGEST_EMAIL:
            return "its user's e-mail address is longer than 254 characters"
        return "its user was imported before and deleted here" if source_key(user) in known else ""

    def _draft(self, user: OldUser) -> Any:
        name = user.username or user.email.partition("@")[0]
        row = self._model(**{self._model.USERNAME_FIELD: name[:_LONGEST_NAME]})
        setattr(row, self._model.get_email_field_name(), user.email)
        row.set_unusable_password()
        return row

    def _store(self, rows: Mapping[OldUser, Any], made: Mapping[OldUser, Any]) -> dict[Any, Account]:
        """Store an account for each that has none, of users that are ``made`` the tenant's; return them by user."""
        found = self._accounts_of(rows.values())
        new = {row.pk for row in made.values()}
        # Somebody who is here has the rights that they have: an account of a tenant would take them away.
        missing = {row.pk: row for row in rows.values() if row.pk not in found}
        accounts = [Account(user=row, tenant=self._tenant if pk in new else None) for pk, row in missing.items()]
        # Whoever was quicker has opened one.
        Account.objects.bulk_create(accounts, ignore_conflicts=True)
        stored, mine = self._accounts_of(missing.values()), {account.pk for account in accounts}
        opened = [account for account in stored.values() if account.pk in mine]
        audit.store([audit.build("account.created", "account", one.pk, tenant_id=one.tenant_id) for one in opened])
        return found | stored

    def _store_users(self, made: Mapping[OldUser, Any]) -> dict[OldUser, Any]:
        """Store users under names that nobody has; return those whose names nobody was quicker to take."""
        if not made:
            return {}
        field, users = self._model.USERNAME_FIELD, self._model._default_manager
        names = {getattr(row, field) for row in made.values()}
        taken = set(users.filter(**{f"{field}__in": names}).values_list(field, flat=True))
        for row in made.values():
            setattr(row, field, name := _free(getattr(row, field), taken))
            taken.add(name)
        users.bulk_create(made.values(), ignore_conflicts=True)
        # Which tells no keys; what stands for a password is a random text, and each user's own.
        keys = dict(users.filter(**{f"{field}__in": taken}).values_list("password", "pk"))
        stored = {user: row for user, row in made.items() if row.password in keys}
        for row in stored.values():
            row.pk = keys[row.password]
        audit.store([audit.build("user.created", "user", str(row.pk)) for row in stored.values()])
        return stored

    def _accounts_of(self, rows: Iterable[Any]) -> dict[Any, Account]:
        ids = [row.pk for row in rows if row.pk is not None]
        return {account.user_id: account for account in Account.objects.filter(user_id__in=ids)}

    def _foreign(self, account: Account | None) -> str:
        if self._tenant is None or account is None or account.tenant_id in (None, self._tenant.pk):
            return ""
        return "its user belongs to another tenant here"


def source_key(user: OldUser) -> str:
    """Name a user of theirs for runs."""
    return f"user:{user.table}:{user.id}"[:250]


def _free(name: str, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    numbered = (f"{name[: _LONGEST_NAME - 8]}-{number}" for number in range(2, 1_000_000))
    return next(candidate for candidate in numbered if candidate not in taken)
