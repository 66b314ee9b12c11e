"""What is known over there of their users' e-mail addresses: who shares one, and which are verified.

Upper and lower case are one as they are in `connections.imports.addresses`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from connections.imports.django_oauth.old_database import Session, columns_of

__all__ = ["shared", "verified"]

_VERIFIED = "account_emailaddress"


def shared(session: Session, users: str) -> Collection[str]:
    """Return the folded addresses that more than one user in a table (its name quoted) have."""
    if not users or "email" not in columns_of(session, users):
        return frozenset()
    folding = 'lower(email::text COLLATE "C")'
    rows = session.execute(
        f"SELECT {folding} AS email FROM {users} WHERE email <> '' GROUP BY 1 HAVING count(*) > 1"  # noqa: S608
    )
    return frozenset(row["email"] for row in rows)


def verified(session: Session, columns: Mapping[str, str], key: str) -> str:
    """Return the SQL that tells of a user ``u`` with that (quoted) ``key`` whether allauth has verified the address.

    Without its table nobody can tell, and it is true.
    """
    if "email" not in columns or not columns_of(session, _VERIFIED).keys() >= {"user_id", "email", "verified"}:
        return "true"
    return (
        f"EXISTS (SELECT FROM {_VERIFIED} e WHERE e.user_id = u.{key} AND e.verified "
        'AND lower(e.email::text COLLATE "C") = lower(u.email::text COLLATE "C"))'
    )
