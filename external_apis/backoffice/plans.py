"""Put an account on a plan: its allowance becomes the balance, and the period on the plan before ends."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete
from django.utils import timezone

from external_apis import audit
from external_apis.backoffice import token_balances
from external_apis.backoffice.models import Plan, PlanPeriod, TokenOperation
from external_apis.errors import Conflict, InvalidInput
from external_apis.models import Account, Tenant

__all__ = ["change_plan", "delete_plan", "find_plan", "listen", "move_account"]


def listen() -> None:
    """End the period of whoever goes, whoever deletes them: nothing is earned of them from then on."""
    post_delete.connect(_left, sender=Account, dispatch_uid="backoffice.plans")


def find_plan(slug: str, *, is_held: bool = False) -> Plan:
    """Return a plan that can be given; one that is held is not deleted before this transaction ends.

    Raises `InvalidInput` that names those there are.
    """
    plans = Plan.objects.filter(is_active=True)
    plan = (plans.select_for_update() if is_held else plans).filter(slug=slug).first()
    if plan is None:
        slugs = list(plans.values_list("slug", flat=True))
        error = InvalidInput.of("plan", f"there is no such plan; there are {', '.join(slugs) or 'none'}")
        error.details["plans"] = slugs
        raise error
    return plan


def change_plan(account: Account, slug: str) -> Account:
    """Put an account on a plan and set its tokens to the plan's allowance; on the plan it has already nothing happens.

    Setting, and not adding, makes it the same however often it is asked for. Raises `InvalidInput` as `find_plan`.
    """
    with transaction.atomic():
        account = token_balances.locked(account)
        plan = find_plan(slug, is_held=True)
        if account.plan == plan.slug:
            return account
        before = copy(account)
        account.plan = plan.slug
        account.save(update_fields=["plan", "updated_at"])
        _begin_period(account, plan.slug, plan.price_minor, plan.currency, _end_period(account))
        token_balances.store(account, TokenOperation.PLAN, plan.tokens)
        audit.record("user.plan_changed", account, audit.changed_fields(account, before))
    return account


def move_account(account: Account, tenant: Tenant | None) -> Account:
    """Give an account to another tenant, or to none: its plan, at the price it has, earns there from now on.

    The ledger of its tokens and its sessions go along. Raises `NotFound` for an account that has just gone.
    """
    with transaction.atomic():
        account = token_balances.locked(account)
        if account.tenant == tenant:
            return account
        before = copy(account)
        account.tenant = tenant
        account.save(update_fields=["tenant", "updated_at"])
        account.token_changes.update(tenant=tenant)
        account.sessions.update(tenant=tenant)
        if (ended := _end_period(account)) is not None:
            _begin_period(account, ended.plan, ended.price_minor, ended.currency, ended)
        audit.record("account.updated", account, audit.changed_fields(account, before))
    return account


def delete_plan(plan: Plan) -> None:
    """Delete a plan. Raises `Conflict` while somebody is on it: it can be made inactive instead."""
    with transaction.atomic():
        # Held, as by whoever puts somebody on it; a plan that is gone meanwhile has nobody.
        list(Plan.objects.select_for_update().filter(pk=plan.pk).values_list("pk"))
        count = Account.objects.filter(plan=plan.slug).count()
        if count:
            raise Conflict(f"{count} users are on the plan {plan.slug}.", details={"users": count})
        audit.record("plan.deleted", plan, {"slug": [plan.slug, None]})
        plan.delete()


def _left(sender: Any, instance: Account, **_more: Any) -> None:
    _end_period(instance)


def _end_period(account: Account) -> PlanPeriod | None:
    """End the open one and return it; it never ends before it began, though the clock was set back."""
    period = PlanPeriod.objects.filter(account_id=account.pk, ended_at=None).first()
    if period is not None:
        period.ended_at = max(timezone.now(), period.started_at)
        period.save(update_fields=["ended_at"])
    return period


def _begin_period(account: Account, plan: str, price_minor: int, currency: str, after: PlanPeriod | None) -> None:
    PlanPeriod.objects.create(
        account=account, tenant_id=account.tenant_id, plan=plan, price_minor=price_minor, currency=currency,
        started_at=(after and after.ended_at) or timezone.now(),
    )  # fmt: skip
