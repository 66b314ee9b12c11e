"""Puts renewed tokens into one old row, unless somebody else has changed it; as its library would have."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from connections.imports.django_oauth import allauth, digests, social_auth
from connections.imports.django_oauth.expiry import write_expiry
from connections.imports.django_oauth.old_database import Session, columns_of
from connections.imports.django_oauth.old_rows import read_object
from external_apis.errors import Conflict, NotFound

__all__ = ["Renewed", "write"]

_JSON_TYPES = frozenset({"jsonb", "json", "text"})


@dataclass(frozen=True)
class Renewed:
    """What a connection holds now. Without a refresh token the row keeps its own."""

    secrets: Mapping[str, str]
    expires_at: datetime | None

    @property
    def digest(self) -> str:
        return digests.plain_of_stored(self.secrets)

    def __repr__(self) -> str:
        return f"<Renewed until {self.expires_at}>"


def write(session: Session, kind: str, number: int, renewed: Renewed, standing: Collection[str]) -> None:
    """Write and commit; a locked row is not waited for. ``standing`` are the digests of what may be overwritten.

    Raises `NotFound` for a row that is gone and `Conflict` for one that somebody else has changed, both in words for
    people, and psycopg's errors.
    """
    with session.transaction():
        if kind == social_auth.KIND:
            _write_social_auth(session, number, renewed, standing)
        else:
            _write_allauth(session, number, renewed, standing)


def _write_social_auth(session: Session, number: int, renewed: Renewed, standing: Collection[str]) -> None:
    columns = columns_of(session, social_auth.TABLE)
    statement = (
        f"SELECT id, provider, uid, extra_data::text AS extra_data FROM {social_auth.TABLE} "  # noqa: S608 (our names)
        "WHERE id = %s FOR NO KEY UPDATE NOWAIT"
    )
    row = _found(session.execute(statement, [number]).fetchone())
    _require_standing(social_auth.read_row(row, None).tokens, renewed, standing)
    data = read_object(row["extra_data"])
    names = ("access_token", "refresh_token")
    tokens = {name: renewed.secrets[name] for name in names if name in renewed.secrets}
    text = json.dumps(data | tokens | write_expiry(data, renewed.expires_at, timezone.now()))
    if isinstance(json.loads(row["extra_data"]), str):  # it was encoded twice, and is read so
        text = json.dumps(text)
    kind = columns["extra_data"] if columns.get("extra_data") in _JSON_TYPES else "text"
    modified = ", modified = now()" if "modified" in columns else ""
    session.execute(
        f"UPDATE {social_auth.TABLE} SET extra_data = %s::{kind}{modified} WHERE id = %s",  # noqa: S608 (of our own)
        [text, number],
    )


def _write_allauth(session: Session, number: int, renewed: Renewed, standing: Collection[str]) -> None:
    statement = (
        "SELECT s.id, a.provider, a.uid, s.token, s.token_secret, s.expires_at, NULL AS client_id "  # noqa: S608
        f"FROM {allauth.TABLE} s JOIN {allauth.ACCOUNT} a ON a.id = s.account_id WHERE s.id = %s "
        "FOR NO KEY UPDATE OF s NOWAIT"
    )
    row = _found(session.execute(statement, [number]).fetchone())
    _require_standing(allauth.read_row(row, None).tokens, renewed, standing)
    session.execute(
        f"UPDATE {allauth.TABLE} SET token = %s, token_secret = %s, expires_at = %s WHERE id = %s",  # noqa: S608
        [
            renewed.secrets["access_token"],
            renewed.secrets.get("refresh_token", row["token_secret"]),
            renewed.expires_at,
            number,
        ],
    )


def _found(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        raise NotFound("The old row is gone.")
    return row


def _require_standing(tokens: Any, renewed: Renewed, standing: Collection[str]) -> None:
    if tokens is None or digests.plain(tokens) not in {*standing, renewed.digest}:
        raise Conflict("The old system has changed the row since; it was left as it is.")
