"""Reads the old tables in batches by their keys, with the columns that they have; a half of them is enough."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from connections.imports.addresses import folded
from connections.imports.any_text import is_text
from connections.imports.django_oauth import allauth, social_auth
from connections.imports.django_oauth.addresses import shared, verified
from connections.imports.django_oauth.old_database import Session, columns_of, may_change, users_of
from connections.imports.django_oauth.old_rows import MOST_JSON, OldApp, OldClient, OldRow, OldUser
from external_apis.errors import InvalidInput

__all__ = ["OldTable", "find_tables"]

_Read = Callable[[Mapping[str, Any], OldUser | None], OldRow]
# A character more than is read, so that it is noticed.
_SOCIAL_AUTH = f"s.id, s.provider, s.uid, left(s.extra_data::text, {MOST_JSON + 1}) AS extra_data"
# There are times that Python has none for: infinity, and those before Christ.
_ENDS = "CASE WHEN s.expires_at IS NOT NULL THEN greatest(least(s.expires_at, '3000-01-01'), '1970-01-01') END"


@dataclass(frozen=True)
class OldTable:
    """A table of tokens. ``is_lockable`` tells whether this role may keep others from changing what is being read;
    ``shared`` are e-mail addresses that more than one of its users have."""

    kind: str
    table: str
    statement: str
    users: str
    shared: Collection[str]
    is_lockable: bool
    read_row: _Read

    def count(self, session: Session) -> int:
        """Return how many rows there are."""
        row = session.execute(f"SELECT count(*) AS number FROM {self.table}").fetchone()  # noqa: S608 (names of our own)
        return int(row["number"]) if row else 0

    def read(self, session: Session, after: int, limit: int, *, locks: bool) -> list[OldRow]:
        """Return the next rows by their keys, locked until the session's transaction ends where that can be done."""
        lock = " FOR NO KEY UPDATE OF s" if locks and self.is_lockable else ""
        found = session.execute(f"{self.statement} WHERE s.id > %s ORDER BY s.id LIMIT %s{lock}", [after, limit])
        return [self._read(row) for row in found]

    def _read(self, row: Mapping[str, Any]) -> OldRow:
        if all(is_text(value) for value in row.values()):
            return self.read_row(row, self._user(row))
        number, provider = row["id"], row["provider"] if is_text(row["provider"]) else ""
        return OldRow(self.kind, number, provider or "", "", None, problem="it holds bytes that are no UTF-8 text")

    def _user(self, row: Mapping[str, Any]) -> OldUser | None:
        if row["found_user_id"] is None:
            return None
        email = row["email"] or ""
        is_alone = folded(email) not in self.shared
        return OldUser(
            self.users, str(row["found_user_id"]), row["username"] or "", email, is_alone, bool(row["is_verified"])
        )


def find_tables(session: Session) -> tuple[list[OldTable], list[OldApp], list[str]]:
    """Return the tables of tokens that there are, allauth's apps, and remarks about what is missing.

    Raises `InvalidInput` where there is nothing at all, or a table lacks a column that tokens stand in.
    """
    found = [table for table in (_social_auth(session), _allauth(session)) if table is not None]
    apps, notes = _apps(session), _notes(session)
    if broken := sum(not _is_readable(app) for app in apps):
        notes.append(f"{broken:,} apps of allauth hold bytes that are no UTF-8 text, and are left.")
    apps = [app for app in apps if _is_readable(app)]
    if not found and not apps:
        raise InvalidInput(
            f"There is neither {social_auth.TABLE} nor {allauth.TABLE} in that database, as far as its user may see."
        )
    return found, apps, notes


def _social_auth(session: Session) -> OldTable | None:
    columns = columns_of(session, social_auth.TABLE)
    if not columns:
        return None
    _require(social_auth.TABLE, social_auth.COLUMNS, columns)
    users, chosen, joined = _users(session, social_auth.TABLE, "s.user_id")
    return OldTable(
        social_auth.KIND,
        social_auth.TABLE,
        f"SELECT {_SOCIAL_AUTH}, {chosen} FROM {social_auth.TABLE} s {joined}",  # noqa: S608 (no one's input)
        users,
        shared(session, users),
        may_change(session, social_auth.TABLE),
        social_auth.read_row,
    )


def _allauth(session: Session) -> OldTable | None:
    columns, accounts = columns_of(session, allauth.TABLE), columns_of(session, allauth.ACCOUNT)
    if not columns:
        return None
    _require(allauth.TABLE, allauth.COLUMNS, columns)
    _require(allauth.ACCOUNT, allauth.ACCOUNT_COLUMNS, accounts)
    users, chosen, joined = _users(session, allauth.ACCOUNT, "a.user_id")
    ends = _ENDS if "expires_at" in columns else "NULL::timestamptz"
    client, app = "NULL AS client_id, NULL AS client_secret", ""
    if "app_id" in columns and columns_of(session, allauth.APP).keys() >= allauth.APP_COLUMNS:
        client, app = "p.client_id, p.secret AS client_secret", f"LEFT JOIN {allauth.APP} p ON p.id = s.app_id"
    statement = (
        f"SELECT s.id, a.provider, a.uid, s.token, s.token_secret, {ends} AS expires_at, {client}, {chosen} "  # noqa: S608
        f"FROM {allauth.TABLE} s LEFT JOIN {allauth.ACCOUNT} a ON a.id = s.account_id {app} {joined}"
    )
    is_lockable = may_change(session, allauth.TABLE)
    return OldTable(
        allauth.KIND, allauth.TABLE, statement, users, shared(session, users), is_lockable, allauth.read_row
    )


def _apps(session: Session) -> list[OldApp]:
    columns = columns_of(session, allauth.APP)
    if not columns.keys() >= allauth.APP_COLUMNS | {"provider"}:
        return []
    # Of several apps of one kind the accounts are told apart by this.
    name = "coalesce(nullif(provider_id, ''), provider)" if "provider_id" in columns else "provider"
    rows = session.execute(
        f"SELECT {name} AS provider, client_id, secret FROM {allauth.APP} WHERE client_id <> '' ORDER BY id"  # noqa: S608
    )
    return [OldApp(allauth.KIND, row["provider"], OldClient(row["client_id"], row["secret"] or "")) for row in rows]


def _is_readable(app: OldApp) -> bool:
    texts = (app.provider, app.client.id, app.client.secret) if app.client else (app.provider,)
    return all(map(is_text, texts))


def _users(session: Session, table: str, of: str) -> tuple[str, str, str]:
    """Return the table of the users, what is chosen of it, and how it is joined."""
    found = users_of(session, table)
    if found is None:
        return "", f"{of} AS found_user_id, '' AS username, '' AS email, false AS is_verified", ""
    name, key, columns = found
    chosen = ", ".join(
        f"u.{column}::text AS {column}" if column in columns else f"'' AS {column}" for column in ("username", "email")
    )
    quoted = '"' + key.replace('"', '""') + '"'
    chosen += f", {verified(session, columns, quoted)} AS is_verified"
    return name, f"u.{quoted} AS found_user_id, {chosen}", f"LEFT JOIN {name} u ON u.{quoted} = {of}"


def _notes(session: Session) -> list[str]:
    accounts, tokens = columns_of(session, allauth.ACCOUNT), columns_of(session, allauth.TABLE)
    if not accounts or not tokens:
        return [f"{allauth.ACCOUNT} is there and {allauth.TABLE} is not: it holds no tokens."] if accounts else []
    row = session.execute(
        f"SELECT count(*) AS number FROM {allauth.ACCOUNT} a "  # noqa: S608 (names of our own)
        f"WHERE NOT EXISTS (SELECT FROM {allauth.TABLE} t WHERE t.account_id = a.id)"
    ).fetchone()
    number = row["number"] if row else 0
    return [f"{number:,} accounts of allauth have no token (SOCIALACCOUNT_STORE_TOKENS was off)."] if number else []


def _require(table: str, wanted: frozenset[str], columns: Mapping[str, str]) -> None:
    if missing := sorted(wanted - columns.keys()):
        raise InvalidInput(f"{table} has no column {', '.join(missing)}: it is not the table that was expected.")
