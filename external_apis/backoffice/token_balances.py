"""The AI tokens of an account: changed under a lock of its row, each change with its line in the ledger."""

from __future__ import annotations

from copy import copy
from typing import Literal

from django.db import transaction

from external_apis import audit, request_context
from external_apis.backoffice.models import MOST_TOKENS, TokenChange, TokenOperation
from external_apis.errors import Conflict, NotFound
from external_apis.models import Account

__all__ = ["Operation", "adjust", "locked", "store"]

Operation = Literal["set", "add", "subtract"]


def adjust(account: Account, operation: Operation, tokens: int) -> Account:
    """Set, raise or lower a balance by ``tokens``, which is not negative. Whoever comes at once waits for their turn.

    Raises `Conflict` for a balance that would be below zero or above `MOST_TOKENS`: it depends on what is stored, so
    that the same request may be right a moment later; and `NotFound` for an account that has just gone.
    """
    with transaction.atomic():
        account = locked(account)
        before = copy(account)
        balance = {"set": tokens, "add": account.tokens + tokens, "subtract": account.tokens - tokens}[operation]
        if balance < 0:
            raise Conflict(
                f"The user has {account.tokens} tokens: {tokens} cannot be taken.", details={"tokens": account.tokens}
            )
        if balance > MOST_TOKENS:
            raise Conflict(
                f"The user has {account.tokens} tokens: with {tokens} more they would be above {MOST_TOKENS}.",
                details={"tokens": account.tokens},
            )
        store(account, TokenOperation(operation), balance)
        audit.record("user.tokens_changed", account, audit.changed_fields(account, before))
    return account


def locked(account: Account) -> Account:
    """Return an account as it is now, which nobody else changes before this transaction ends. Raises `NotFound`."""
    found = Account.objects.select_for_update(of=("self",)).select_related("user", "tenant").filter(pk=account.pk)
    row = found.first()
    if row is None:
        raise NotFound(f"User {account.pk} not found")
    return row


def store(account: Account, operation: TokenOperation, balance: int) -> None:
    """Store the balance of a `locked` account, and the line that tells of it."""
    context = request_context.current()
    before, account.tokens = account.tokens, balance
    account.save(update_fields=["tokens", "updated_at"])
    TokenChange.objects.create(
        account=account, tenant_id=account.tenant_id, operation=operation, before=before, after=balance,
        delta=balance - before, actor=context.actor or "system", request_id=context.request_id,
    )  # fmt: skip
