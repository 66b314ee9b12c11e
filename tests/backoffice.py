"""Rows of the backoffice for tests, of a tenant or of the whole installation, and their ids."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from external_apis.backoffice import ai_models, blogs, feature_requests
from external_apis.backoffice.affiliates import create_affiliate, earn_commission
from external_apis.backoffice.models import Affiliate, ContactMessage
from external_apis.backoffice.withdrawals import request_withdrawal
from external_apis.models import Tenant
from external_apis.tenancy import Scope
from tests.backoffice_users import make_account, make_plan, make_session

_numbers = itertools.count(1)


def _user(tenant: Tenant | None) -> tuple[str, ...]:
    make_plan("professional")  # a test that commits leaves none of those that a migration makes
    return (make_account(tenant).pk,)


def _session(tenant: Tenant | None) -> tuple[str, ...]:
    account = make_account(tenant)
    return account.pk, make_session(account).pk


def _model(tenant: Tenant | None) -> tuple[str, ...]:
    data = {"name": f"model-{next(_numbers)}", "label": "A model"}
    return (ai_models.create(data, _scope(tenant)).pk,)


def make_affiliate(tenant: Tenant | None, balance_minor: int = 0) -> Affiliate:
    """An affiliate who has earned so much, in EUR."""
    code = f"code-{next(_numbers)}"
    affiliate = create_affiliate(
        {
            "code": code,
            "name": "Ada",
            "email": f"{code}@example.com",
            "commission_basis_points": 10_000,
            "currency": "EUR",
        },
        _scope(tenant),
    )
    if balance_minor:
        earn_commission(affiliate, balance_minor, "EUR")
    return affiliate


def _affiliate(tenant: Tenant | None) -> tuple[str, ...]:
    return (make_affiliate(tenant).pk,)


def _withdrawal(tenant: Tenant | None) -> tuple[str, ...]:
    return (request_withdrawal(make_affiliate(tenant, 10_000), 5_000, "EUR").pk,)


def _blog(tenant: Tenant | None) -> tuple[str, ...]:
    return (blogs.create_blog({"title": f"Post {next(_numbers)}", "body": "# Post"}, _scope(tenant)).pk,)


def _feature_request(tenant: Tenant | None) -> tuple[str, ...]:
    return (feature_requests.create_feature_request({"title": "A wish"}, _scope(tenant)).pk,)


def _contact_message(tenant: Tenant | None) -> tuple[str, ...]:
    return (ContactMessage.objects.create(tenant=tenant, name="Ada", email="ada@example.com", message="Hello").pk,)


def _scope(tenant: Tenant | None) -> Scope:
    return Scope(None if tenant is None else tenant.pk)


ROWS: Mapping[str, Callable[[Tenant | None], tuple[str, ...]]] = {
    "user": _user,
    "session": _session,
    "model": _model,
    "affiliate": _affiliate,
    "withdrawal": _withdrawal,
    "blog": _blog,
    "feature_request": _feature_request,
    "contact_message": _contact_message,
}
"""Makes a row of a kind; returns its id, of a session its user's before."""
