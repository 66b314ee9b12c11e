"""Notices that a refresh token came before, with whatever import: of two connections that renew one grant, one loses.

Sources are recognised by their own keys first; this is for the same token in another row, table, dump, or under another
tenant.
"""

from __future__ import annotations

from collections.abc import Collection

from connections.imports.living import living
from connections.models import ImportedRow
from external_apis.data_keys import data_keys

__all__ = ["digest", "holders"]


def digest(refresh_token: str | None) -> str:
    """Return what is kept of a refresh token: keyed for the installation, so the same for every tenant; "" of none."""
    return data_keys().writing(None).fingerprint(refresh_token) if refresh_token else ""


def holders(digests: Collection[str]) -> dict[str, str]:
    """Return by digest which live connection (its id) was imported with such a token; two queries."""
    return living(ImportedRow.objects.filter(token_digest__in=set(digests) - {""}), "token_digest")
