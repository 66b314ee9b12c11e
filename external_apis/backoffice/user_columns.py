"""The columns of Django's users that a project's own user model may lack.

Without them all are active, and nobody is of the staff or a superuser for whoever looks for those in the table.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q

__all__ = ["has_column", "is_", "those_who_are"]

_WITHOUT = {"is_active": True, "is_staff": False, "is_superuser": False}


def has_column(name: str) -> bool:
    return any(field.name == name for field in get_user_model()._meta.concrete_fields)


def is_(user: Any, name: str) -> bool:
    """What a user says of itself, in a column or not."""
    return bool(getattr(user, name, _WITHOUT[name]))


def those_who_are(prefix: str = "user__", **wanted: bool) -> Q:
    """The condition on accounts, or with another ``prefix`` on other rows, that the users are so."""
    found = Q()
    for name, value in wanted.items():
        if has_column(name):
            found &= Q(**{f"{prefix}{name}": value})
        elif value is not _WITHOUT[name]:
            found &= Q(pk__in=())
    return found
