"""Admin pages of affiliates and withdrawals: who may do what with them, and what they show."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice.admin.affiliates import AffiliateAdmin
from external_apis.backoffice.models import Affiliate, Withdrawal, WithdrawalStatus
from external_apis.backoffice.withdrawals import decide_withdrawal
from external_apis.models import AuditEvent
from tests.affiliates import make_affiliate, make_withdrawal
from tests.factories import make_tenant, make_user

pytestmark = pytest.mark.django_db
AFFILIATES, WITHDRAWALS = "/admin/backoffice/affiliate/", "/admin/backoffice/withdrawal/"
BODY = {"code": "new", "name": "New", "email": "new@example.com", "commission_basis_points": "1000", "status": "active"}


def signed_in(*permissions: str, tenant: Any = None, **fields: Any) -> Client:
    client = Client()
    client.force_login(make_user(permissions=[f"backoffice.{name}" for name in permissions], tenant=tenant, **fields))
    return client


def told(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def buttons_of(client: Client, row: Withdrawal) -> dict[str, str]:
    """What the row's page shows may be done with it, and where that is posted to."""
    page = client.get(f"{WITHDRAWALS}{row.pk}/change/").content.decode()
    found = re.findall(rf'action="([^"]*/{quote(row.pk)}/(approve|pay|reject)/[^"]*)"', page)
    return {name: html.unescape(url) for url, name in found}


def status_of(row: Withdrawal) -> str:
    return Withdrawal.objects.get(pk=row.pk).status


def test_buttons_are_those_of_what_may_follow() -> None:
    client, row = signed_in(is_superuser=True), make_withdrawal()
    ways = [(None, {"approve", "reject"}), ("approve", {"pay", "reject"}), ("pay", set())]
    for press, following in ways:
        if press:
            assert client.post(buttons_of(client, row)[press]).status_code == 302
        page = client.get(f"{WITHDRAWALS}{row.pk}/change/").content.decode()
        assert {name for name in ("approve", "pay", "reject") if f"/{quote(row.pk)}/{name}/" in page} == following
        assert 'name="_save"' not in page
    assert status_of(row) == "paid"


def test_a_button_of_a_page_that_somebody_overtook_does_nothing() -> None:
    client, row = signed_in(is_superuser=True), make_withdrawal()
    seen = buttons_of(client, row)
    decide_withdrawal(row, WithdrawalStatus.APPROVED)
    assert "is approved, and pending was expected" in told(client.post(seen["reject"]))
    assert status_of(row) == "approved"
    client.post(buttons_of(client, row)["reject"])
    assert status_of(row) == "rejected"


def test_nobody_decides_by_a_link_and_nobody_twice() -> None:
    client, row = signed_in(is_superuser=True), make_withdrawal()
    assert client.get(f"{WITHDRAWALS}{row.pk}/approve/").status_code == 405
    assert status_of(row) == "pending"
    decide_withdrawal(row, WithdrawalStatus.REJECTED)
    assert "is rejected, and cannot become approved" in told(client.post(f"{WITHDRAWALS}{row.pk}/approve/"))
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(make_user(is_superuser=True))
    assert forged.post(f"{WITHDRAWALS}{row.pk}/reject/").status_code == 403


def test_permissions_and_tenants() -> None:
    mine = make_tenant()
    own, foreign = make_withdrawal(mine), make_withdrawal(make_tenant())
    reader = signed_in("view_withdrawal", tenant=mine)
    assert reader.get(f"{WITHDRAWALS}{own.pk}/change/").status_code == 200
    assert reader.post(f"{WITHDRAWALS}{own.pk}/approve/").status_code == 404
    assert reader.get(AFFILIATES).status_code == 403
    writer = signed_in("view_withdrawal", "change_withdrawal", tenant=mine)
    assert writer.post(f"{WITHDRAWALS}{foreign.pk}/approve/").status_code == 404
    assert writer.post(f"{WITHDRAWALS}{own.pk}/approve/").status_code == 302
    assert (status_of(own), status_of(foreign)) == ("approved", "pending")
    assert foreign.pk not in writer.get(WITHDRAWALS).content.decode()
    assert writer.get(f"{WITHDRAWALS}add/").status_code == 403


def test_a_withdrawal_is_asked_for_within_the_balance_and_the_tenant() -> None:
    mine = make_tenant()
    own, foreign = make_affiliate(mine, balance=100), make_affiliate(make_tenant(), balance=100)
    client = signed_in("view_withdrawal", "add_withdrawal", "view_affiliate", tenant=mine)
    for affiliate, amount in ((own, "101"), (own, "0"), (own, "-5"), (own, "x"), (foreign, "5")):
        response = client.post(f"{WITHDRAWALS}add/", {"affiliate": affiliate.pk, "amount_minor": amount})
        assert response.status_code == 200, (affiliate.pk, amount)
    assert not Withdrawal.objects.exists()
    assert client.post(f"{WITHDRAWALS}add/", {"affiliate": own.pk, "amount_minor": "60"}).status_code == 302
    assert Affiliate.objects.get(pk=own.pk).balance_minor == 40


def test_an_affiliate_is_made_changed_and_shown_with_the_ledger() -> None:
    mine = make_tenant()
    client = signed_in(*(f"{action}_affiliate" for action in ("view", "add", "change", "delete")), tenant=mine)
    assert client.post(f"{AFFILIATES}add/", {**BODY, "currency": "euro"}).status_code == 200
    assert client.post(f"{AFFILIATES}add/", {**BODY, "currency": "EUR"}).status_code == 302
    row = Affiliate.objects.get()
    assert (row.tenant, row.currency, row.commission_basis_points) == (mine, "EUR", 1000)
    changed = {**BODY, "name": "Other", "currency": "USD", "balance_minor": "5", "tenant": make_tenant().pk}
    assert client.post(f"{AFFILIATES}{row.pk}/change/", changed).status_code == 302
    row.refresh_from_db()
    assert (row.name, row.currency, row.balance_minor, row.tenant) == ("Other", "EUR", 0, mine)
    make_affiliate(mine, code="taken")
    assert "another affiliate" in client.post(
        f"{AFFILIATES}{row.pk}/change/", {**BODY, "code": "taken"}
    ).content.decode().replace("&#x27;", "'")
    earning = make_affiliate(mine, balance=12_345)
    assert "12345" in client.get(f"{AFFILIATES}{earning.pk}/change/").content.decode()


def test_whoever_is_owed_something_is_not_deleted() -> None:
    client, row, other = signed_in(is_superuser=True), make_affiliate(balance=5), make_affiliate()
    page = client.post(f"{AFFILIATES}{row.pk}/delete/", {"post": "yes"}).content.decode()
    assert "still owed something" in page
    chosen = {"action": "delete_selected", "_selected_action": [row.pk, other.pk], "post": "yes"}
    assert "still owed something" in client.post(AFFILIATES, chosen).content.decode()
    assert Affiliate.objects.filter(deleted_at=None).count() == 2
    assert client.post(f"{AFFILIATES}{other.pk}/delete/", {"post": "yes"}).status_code == 302
    assert client.get(f"{AFFILIATES}{other.pk}/change/").status_code == 302
    assert AuditEvent.objects.filter(action="affiliate.deleted").count() == 1


@pytest.mark.parametrize(
    ("meanwhile", "message"),
    [
        ({"balance_minor": 5}, "is still owed something"),
        ({"deleted_at": datetime(2026, 3, 1, tzinfo=UTC)}, "not found"),
    ],
)
def test_what_became_of_an_affiliate_while_the_page_was_made_is_told(
    monkeypatch: pytest.MonkeyPatch, meanwhile: dict[str, Any], message: str
) -> None:
    client, row, other = signed_in(is_superuser=True), make_affiliate(), make_affiliate()
    look = AffiliateAdmin.get_deleted_objects

    def be_overtaken(*arguments: Any) -> Any:
        found = look(*arguments)
        Affiliate.objects.filter(pk=row.pk).update(**meanwhile)
        return found

    monkeypatch.setattr(AffiliateAdmin, "get_deleted_objects", be_overtaken)
    chosen = {"action": "delete_selected", "_selected_action": [row.pk, other.pk], "post": "yes"}
    for url, sent in ((f"{AFFILIATES}{row.pk}/delete/", {"post": "yes"}), (AFFILIATES, chosen)):
        response = client.post(url, sent)
        assert response.status_code == 302
        assert message in told(response)
    assert not AuditEvent.objects.filter(action="affiliate.deleted").exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("url", [AFFILIATES, WITHDRAWALS])
def test_a_list_costs_the_same_queries_for_one_and_for_thirty(url: str) -> None:
    client, tenant, counts = signed_in(is_superuser=True), make_tenant(), []
    for number in (1, 29):
        for _ in range(number):
            make_withdrawal(tenant)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"{url}?q=ann").status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1]
