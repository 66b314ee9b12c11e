"""Notices that a refresh token came before, with whatever import: of two connections that renew one grant, one loses.

Sources are recognised by their own keys first; this is for the same token in another row, table, dump, or under another
tenant.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection

from connections.imports.living import living
from connections.models import ImportedRow
from external_apis.data_keys import data_keys

__all__ = ["digest", "holders", "let_nobody_else_store"]

_LOCK = "refresh tokens of imports"


def digest(refresh_token: str | None) -> str:
    """Return what is kept of a refresh token: keyed for the installation, so the same for every tenant; "" of none."""
    return data_keys().writing(None).fingerprint(refresh_token) if refresh_token else ""


def holders(digests: Collection[str]) -> dict[str, str]:
    """Return by digest which live connection (its id) was imported with such a token; two queries."""
    return living(ImportedRow.objects.filter(token_digest__in=set(digests) - {""}), "token_digest")


def let_nobody_else_store() -> None:
    """Let every other import wait until this transaction ends, so that each sees whose tokens are here already, and
    which providers and users another one has made.

    Before `holders` is asked for what the same transaction stores, and before anything here is locked in it: whoever
    waits for this holds nothing that the one waited for may want. Of no use to a dry run.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [_LOCK])
