"""Who pays for a call of an AI model, and what it used: written down once, when its answer has ended."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from external_apis.backoffice import token_balances
from external_apis.backoffice.models import AiCall, AiModel, Plan, TokenOperation
from external_apis.backoffice.user_columns import is_
from external_apis.backoffice.users import find_user
from external_apis.errors import Conflict, NotFound, TokensUsedUp
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
    """Return the user in whose name a model is called: one of the model's tenant, or any for a model of no tenant.

    Raises `NotFound` for one that is not among the users there, as a superuser is in no tenant, and `Conflict` for one
    who is inactive.
    """
    account = find_user(account_id, scope if model.tenant_id is None else Scope(model.tenant_id, scope.is_sandbox))
    if not account.user.is_active:
        raise Conflict(f"User {account.pk} is inactive.")
    return account


def require_balance(account: Account) -> None:
    """Raise `TokensUsedUp` for an account with nothing left, if its plan has an allowance.

    Calls that are under way have not been charged yet: together they may use more than what is left.
    """
    if account.tokens <= 0 and Plan.objects.filter(slug=account.plan, tokens__gt=0).exists():
        raise TokensUsedUp(f"User {account.pk} has no tokens left.")


def record(model: AiModel, connection_id: str, account: Account | None, tokens: TokenCounts) -> None:
    """Count one call, and take its tokens from the account's balance, of which nothing is owed below zero."""
    # A superuser is in no tenant, whatever the account says.
    owner: Account | AiModel = model if account is None or is_(account.user, "is_superuser") else account
    with transaction.atomic():
        AiCall.objects.create(
            tenant_id=owner.tenant_id,
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
