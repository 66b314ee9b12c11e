"""Users, their sessions and plans for tests."""

from __future__ import annotations

from django.test import Client

from external_apis.backoffice.models import Plan, UserSession
from external_apis.models import Account, Tenant
from tests.factories import make_user

__all__ = ["make_account", "make_plan", "make_session"]


def make_account(tenant: Tenant | None = None) -> Account:
    """The account of a user who is no staff, and may be deleted."""
    account: Account = make_user(tenant=tenant, is_staff=False).external_apis_account
    return account


def make_session(account: Account) -> UserSession:
    """A session that the account's user is signed in with."""
    Client().force_login(account.user)
    return account.sessions.latest("id")


def make_plan(slug: str = "free", tokens: int = 10, price_minor: int = 0) -> Plan:
    """A plan, which a migration may have made already."""
    facts = {"name": slug.title(), "tokens": tokens, "price_minor": price_minor}
    return Plan.objects.update_or_create(slug=slug, defaults=facts)[0]
