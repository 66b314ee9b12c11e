"""Every user has an account: it is made with the user, whoever makes that one."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models.signals import post_save

from external_apis.models import Account

__all__ = ["account_of", "listen"]


def listen() -> None:
    post_save.connect(_open, sender=get_user_model(), dispatch_uid="external_apis.user_accounts")


def account_of(user: Any) -> Account:
    """Return a user's account; somebody who was stored past all signals (``bulk_create``) gets it now."""
    account, _ = Account.objects.get_or_create(user_id=user.pk)
    return account


def _open(sender: Any, instance: Any, *, created: bool, raw: bool, using: str, **_more: Any) -> None:
    # What is loaded as it was stored brings its accounts along.
    if created and not raw:
        instance.external_apis_account = Account.objects.using(using).create(user=instance)
