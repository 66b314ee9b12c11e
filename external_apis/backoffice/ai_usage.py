"""Who pays for a call of an AI model, and what it used: written down once, when its answer has ended."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from external_apis.backoffice import token_balances
from external_apis.backoffice.models import AiCall, AiModel, Plan, TokenOperation
from external_apis.errors import NotFound, TokensUsedUp
from external_apis.ids import can_name
from external_apis.models import Account
from external_apis.tenancy import Scope

__all__ = ["MOST_TOKENS_OF_ONE", "TokenCounts", "find_payer", "record", "require_balance"]

MOST_TOKENS_OF_ONE = 10**12
"""More than any one call can use; a provider that tells more is not believed."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What a provider said that a call used; 0 where it said nothing."""

    prompt: int = 0
    completion: int = 0
    total: int = 0


def find_payer(account_id: str, model: AiModel, scope: Scope) -> Account:
    """Return the account in whose name a model is called: one of the model's tenant, or any for a model of no tenant.

    Raises `NotFound` for one that the scope does not see as well.
    """
    rows = scope.own(Account.objects.all())
    if model.tenant_id is not None:
        rows = rows.filter(tenant_id=model.tenant_id)
    account = rows.filter(pk=account_id).first() if can_name(account_id) else None
    if account is None:
        raise NotFound(f"User {ascii(account_id)[1:-1]} not found")
    return account


def require_balance(account: Account) -> None:
    """Raise `TokensUsedUp` for an account with nothing left, if its plan has an allowance.

    Calls that are under way have not been charged yet: together they may use more than what is left.
    """
    if account.tokens <= 0 and Plan.objects.filter(slug=account.plan, tokens__gt=0).exists():
        raise TokensUsedUp(f"User {account.pk} has no tokens left.")


def record(model: AiModel, connection_id: str, account: Account | None, tokens: TokenCounts) -> None:
    """Count one call, and take its tokens from the account's balance, of which nothing is owed below zero."""
    with transaction.atomic():
        AiCall.objects.create(
            tenant_id=model.tenant_id if account is None else account.tenant_id,
            model_id=model.pk,
            connection_id=connection_id,
            account_id="" if account is None else account.pk,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            total_tokens=tokens.total,
        )
        if account is not None and tokens.total:
            _charge(account, tokens.total)


def _charge(account: Account, tokens: int) -> None:
    try:
        found = token_balances.locked(account)
    except NotFound:  # deleted while the provider answered
        return
    if found.tokens > 0:
        token_balances.store(found, TokenOperation.SUBTRACT, max(found.tokens - tokens, 0))
