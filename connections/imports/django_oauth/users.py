"""Whose accounts here their users are: by e-mail address or name, or by the key itself where both share one table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.db.models import Model
from django.db.models.functions import Lower

from connections.imports.django_oauth.old_rows import OldUser
from connections.imports.runs import Imported
from external_apis import audit
from external_apis.models import Account, Tenant

__all__ = ["By", "Found", "Users"]

By = Literal["email", "username"]
_LONGEST_NAME, _LONGEST_EMAIL = 150, 254


@dataclass(frozen=True)
class Found:
    """An account, or why there is none. ``is_new`` is one that an import makes."""

    account: Account | None = None
    problem: str = ""
    is_new: bool = False


class Users:
    """Finds accounts a batch at a time. ``creates`` makes users who are not here: they can do nothing, and have no
    password. A user without an account gets one."""

    def __init__(self, tenant: Tenant | None, *, by: By, creates: bool, is_own_database: bool) -> None:
        self._tenant, self._by, self._creates = tenant, by, creates
        self._model: Any = get_user_model()
        self._own_table = self._model._meta.db_table if is_own_database else None

    def find(
        self, users: Iterable[OldUser], known: Collection[str], *, is_applied: bool
    ) -> tuple[dict[OldUser, Found], list[Imported]]:
        """Return what each is here, and the users that were made; four queries, and two more for those that are new.

        ``known`` are the keys (`source_key`) of those that an earlier import made: they are not made again. Unless
        `is_applied` nothing is stored, and whoever would be made, or be given an account, has none.
        """
        wanted = list(dict.fromkeys(users))
        named = self._load({self._name(user) for user in wanted} - {""})
        answers: dict[OldUser, Found] = {}
        rows: dict[OldUser, Any] = {}
        made: dict[OldUser, Any] = {}
        for user in wanted:
            found = self._match(user, named)
            problem = found if isinstance(found, str) else self._problem(user, known) if found is None else ""
            if problem:
                answers[user] = Found(problem=problem)
            elif found is None:
                made[user] = rows[user] = self._draft(user)
            else:
                rows[user] = found
        accounts = self._store(rows, made) if is_applied else self._accounts_of(rows.values())
        for user, row in rows.items():
            account = accounts.get(row.pk)
            answers[user] = Found(account, self._foreign(account), is_new=user in made)
        return answers, [Imported(source_key(user), row) for user, row in made.items()]

    def _name(self, user: OldUser) -> str:
        if user.table == self._own_table:
            return user.id
        return user.email.strip().lower() if self._by == "email" else user.username

    def _load(self, names: Collection[str]) -> dict[str, list[Any]]:
        rows = self._model._default_manager.all()
        if self._own_table is not None:
            found = [(str(row.pk), row) for row in rows.filter(pk__in=names)]
        elif self._by == "email":
            lowered = rows.annotate(lowered=Lower(self._model.get_email_field_name()))
            found = [(row.lowered, row) for row in lowered.filter(lowered__in=names)]
        else:
            field = self._model.USERNAME_FIELD
            found = [(getattr(row, field), row) for row in rows.filter(**{f"{field}__in": names})]
        grouped: dict[str, list[Any]] = {}
        for name, row in found:
            grouped.setdefault(name, []).append(row)
        return grouped

    def _match(self, user: OldUser, named: Mapping[str, list[Any]]) -> Model | str | None:
        """Return the user here, why it cannot be told, or None where there is none."""
        name = self._name(user)
        if not name:
            return "its user has no e-mail address there" if self._by == "email" else "its user has no name there"
        rows = named.get(name, [])
        if len(rows) > 1:
            return "several users here have its user's e-mail address"
        return rows[0] if rows else None

    def _problem(self, user: OldUser, known: Collection[str]) -> str:
        if not self._creates:
            what = "e-mail address" if self._by == "email" else "name"
            return f"its user is not here: nobody has the same {what} (--create-users makes them)"
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
        """Store users that are made, and an account for each that has none; return the accounts by their users."""
        self._store_users(list(made.values()))
        found = self._accounts_of(rows.values())
        new = {row.pk for row in made.values()}
        # Somebody who is here has the rights that they have: an account of a tenant would take them away.
        missing = {row.pk: row for row in rows.values() if row.pk not in found}
        accounts = [Account(user=row, tenant=self._tenant if pk in new else None) for pk, row in missing.items()]
        Account.objects.bulk_create(accounts)
        audit.store([audit.build("account.created", "account", account.pk) for account in accounts])
        return found | {account.user_id: account for account in accounts}

    def _store_users(self, rows: Sequence[Any]) -> None:
        if not rows:
            return
        field = self._model.USERNAME_FIELD
        names = {getattr(row, field) for row in rows}
        taken = set(self._model._default_manager.filter(**{f"{field}__in": names}).values_list(field, flat=True))
        for row in rows:
            setattr(row, field, name := _free(getattr(row, field), taken))
            taken.add(name)
        self._model._default_manager.bulk_create(rows)
        audit.store([audit.build("user.created", "user", str(row.pk)) for row in rows])

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
