"""E-mail addresses that count as one.

Upper and lower case are one for ASCII alone, here, there and in Python: what else is folded differs between databases,
and a Kelvin sign is no k.
"""

from __future__ import annotations

import string

from django.db.models.functions import Collate, Lower

__all__ = ["folded", "folding"]

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(email: str) -> str:
    """Return what is the same for two addresses that count as one."""
    return email.translate(_LOWER)


def folding(column: str) -> Lower:
    """Return what a query says for `folded` of a column."""
    return Lower(Collate(column, "C"))
