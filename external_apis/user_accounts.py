"""Every user has an account: it is made with the user, whoever makes that one.

Who is stored past all signals, by ``bulk_create`` or by a process of the version before, gets it by the next sweep.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models.signals import post_save

from external_apis.models import Account

__all__ = ["account_of", "listen", "open_missing"]

_BATCH = 1_000


def listen() -> None:
    post_save.connect(_open, sender=get_user_model(), dispatch_uid="external_apis.user_accounts")


def account_of(user: Any) -> Account:
    """Return a user's account; somebody who was stored past all signals (``bulk_create``) gets it now."""
    account, _ = Account.objects.get_or_create(user_id=user.pk)
    return account


def open_missing() -> None:
    """Open accounts for users who have none; each is as old as its user."""
    users: Any = get_user_model()
    has_date = any(field.name == "date_joined" for field in users._meta.concrete_fields)
    without = users._base_manager.filter(external_apis_account=None).order_by("pk")
    wanted = without.values_list("pk", *(["date_joined"] if has_date else []))
    while batch := list(wanted[:_BATCH]):
        accounts = [Account(user_id=key, **({"created_at": joined[0]} if joined else {})) for key, *joined in batch]
        # Whoever was quicker has opened one.
        Account.objects.bulk_create(accounts, ignore_conflicts=True)


def _open(sender: Any, instance: Any, *, created: bool, raw: bool, using: str, **_more: Any) -> None:
    # What is loaded as it was stored brings its accounts along.
    if created and not raw:
        instance.external_apis_account = Account.objects.using(using).create(user=instance)
