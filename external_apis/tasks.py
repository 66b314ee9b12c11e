"""Celery's shells on this floor: what they do is in the modules that they call."""

from __future__ import annotations

from celery import shared_task

from external_apis import key_upkeep, user_accounts


@shared_task(name="external_apis.roll_up_key_uses")
def roll_up_key_uses() -> None:
    key_upkeep.roll_up_uses()


@shared_task(name="external_apis.tell_of_old_keys")
def tell_of_old_keys() -> None:
    key_upkeep.tell_of_old_keys()


@shared_task(name="external_apis.open_accounts")
def open_accounts() -> None:
    user_accounts.open_missing()
