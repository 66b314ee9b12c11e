"""Affiliates: who they are, what they earn, and how they go."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice.affiliates import (
    create_affiliate,
    delete_affiliate,
    earn_commission,
    find_affiliate,
    record_referral,
    update_affiliate,
)
from external_apis.backoffice.models import Affiliate, AffiliateEntry, WithdrawalStatus
from external_apis.backoffice.withdrawals import decide_withdrawal, request_withdrawal
from external_apis.errors import Conflict, InvalidInput, NotFound
from external_apis.models import Account, AuditEvent
from external_apis.tenancy import Scope
from tests.affiliates import make_affiliate
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of
from tests.factories import make_key, make_tenant, make_user
from tests.rest import with_key

pytestmark = pytest.mark.django_db
URL = f"{EXTERNAL}/affiliates"


def stored(row: Affiliate) -> Affiliate:
    return Affiliate.objects.get(pk=row.pk)


# --- REST ---------------------------------------------------------------------------------------------------------


def test_what_is_told_of_one() -> None:
    tenant = make_tenant()
    account = Account.objects.get(user=make_user(tenant=tenant))
    row = make_affiliate(tenant, code="ann", user_id=account.pk, commission_basis_points=1250)
    earn_commission(row, 80, "EUR")
    record_referral("ann", tenant_id=tenant.pk)
    told = data_of(with_key().get(f"{URL}/{row.pk}"))
    assert set(told) == {
        "id", "code", "name", "email", "userId", "tenantId", "status", "commissionBasisPoints", "referrals",
        "balanceMinor", "currency", "createdAt", "updatedAt",
    }  # fmt: skip
    assert (told["code"], told["userId"], told["tenantId"], told["status"]) == ("ann", account.pk, tenant.pk, "active")
    assert (told["commissionBasisPoints"], told["referrals"]) == (1250, 1)
    assert (told["balanceMinor"], told["currency"]) == (10, "EUR")


def test_lists_by_page_search_and_status() -> None:
    ann, bob, _ = (make_affiliate(code=code, name=f"{code} Miller".title()) for code in ("ann", "bob", "cat"))
    update_affiliate(bob, {"status": "suspended"})
    client = with_key()

    def listed(query: str) -> list[str]:
        return [item["code"] for item in data_of(client.get(f"{URL}?{query}"))]

    assert listed("") == ["cat", "bob", "ann"]
    assert listed("search=OB") == ["bob"]
    assert listed(f"search={ann.email}") == ["ann"]
    assert listed("status=suspended") == ["bob"]
    assert listed("status=active&search=miller") == ["cat", "ann"]
    assert listed("perPage=2&page=2") == ["ann"]
    assert checked(client.get(f"{URL}?perPage=2"))["pagination"]["total"] == 3


@pytest.mark.parametrize(
    "query", ["status=gone", "page=0", "perPage=101", "plan=free", "search=%00", "status=active&status=active"]
)
def test_queries_that_are_refused(query: str) -> None:
    assert failure_of(with_key().get(f"{URL}?{query}")) == (400, "VALIDATION_ERROR")


def test_a_list_costs_the_same_queries_for_one_and_for_thirty() -> None:
    tenant, client, counts = make_tenant(), with_key(), []
    for number in (1, 29):
        for _ in range(number):
            make_affiliate(tenant)
        with CaptureQueriesContext(connection) as captured:
            assert data_of(client.get(f"{URL}?perPage=100"))
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 3


def test_a_tenants_key_has_its_own() -> None:
    mine, theirs = make_tenant(), make_tenant()
    own, foreign, shared = make_affiliate(mine), make_affiliate(theirs), make_affiliate()
    client = client_of(make_key(tenant=mine).token)
    assert [item["id"] for item in data_of(client.get(URL))] == [own.pk]
    for row in (foreign, shared):
        for method in ("get", "delete"):
            assert failure_of(client.send(method, f"{URL}/{row.pk}")) == (404, "NOT_FOUND")
    assert data_of(client.delete(f"{URL}/{own.pk}")) == {"id": own.pk, "deleted": True}
    assert Affiliate.objects.filter(deleted_at=None).count() == 2


def test_scopes() -> None:
    row = make_affiliate()
    reader, writer, other = (
        client_of(make_key(scopes=[scope]).token) for scope in ("affiliates:read", "affiliates:write", "users:write")
    )
    assert data_of(reader.get(URL))
    assert failure_of(reader.delete(f"{URL}/{row.pk}")) == (403, "FORBIDDEN")
    assert failure_of(other.get(f"{URL}/{row.pk}")) == (403, "FORBIDDEN")
    assert data_of(writer.delete(f"{URL}/{row.pk}"))


def test_a_test_key_sees_none_and_deletes_none() -> None:
    row, client = make_affiliate(), client_of(make_key(mode="test").token)
    assert data_of(client.get(URL)) == []
    assert failure_of(client.get(f"{URL}/{row.pk}")) == (404, "NOT_FOUND")
    assert failure_of(client.delete(f"{URL}/{row.pk}")) == (403, "FORBIDDEN")


# --- deletion -----------------------------------------------------------------------------------------------------


def test_a_tenant_whose_affiliates_had_money_stays_and_says_so() -> None:
    home = make_tenant("home")
    row = make_affiliate(home, balance=500)
    approved = decide_withdrawal(request_withdrawal(row, 500, "EUR"), WithdrawalStatus.APPROVED)
    decide_withdrawal(approved, WithdrawalStatus.PAID)
    delete_affiliate(row)
    response = with_key().delete(f"{EXTERNAL}/tenants/{home.pk}")
    assert failure_of(response) == (409, "CONFLICT")
    expected = "The tenant home still has affiliate entries, deleted affiliates, withdrawals. It can be made inactive."
    assert response.json()["error"]["message"] == expected


def test_whoever_is_owed_something_stays() -> None:
    row = make_affiliate(balance=500)
    response = with_key().delete(f"{URL}/{row.pk}")
    assert failure_of(response) == (409, "CONFLICT")
    owed = {"balanceMinor": 500, "currency": "EUR", "openWithdrawals": 0}
    assert response.json()["error"]["details"] == owed
    withdrawal = request_withdrawal(row, 500, "EUR")
    for status in (None, WithdrawalStatus.APPROVED):
        if status:
            decide_withdrawal(withdrawal, status)
        response = with_key().delete(f"{URL}/{row.pk}")
        assert failure_of(response) == (409, "CONFLICT")
        assert response.json()["error"]["details"] == {**owed, "balanceMinor": 0, "openWithdrawals": 1}
    decide_withdrawal(withdrawal, WithdrawalStatus.PAID)
    assert data_of(with_key().delete(f"{URL}/{row.pk}"))
    assert failure_of(with_key().delete(f"{URL}/{row.pk}")) == (404, "NOT_FOUND")
    assert data_of(with_key().get(URL)) == []
    # What was paid stays on record, and under whose name.
    (told,) = data_of(with_key().get(f"{EXTERNAL}/withdrawals"))
    assert (told["affiliateId"], told["affiliateCode"], told["status"]) == (row.pk, row.code, "paid")
    assert AuditEvent.objects.get(action="affiliate.deleted").object_id == row.pk


def test_a_deleted_one_lets_its_user_go_and_keeps_its_code() -> None:
    user = make_user()
    account, _ = Account.objects.get_or_create(user=user)
    row = make_affiliate(code="ann", user_id=account.pk)
    delete_affiliate(row)
    assert stored(row).account is None
    with pytest.raises(Conflict, match="The code ann is, or was"):
        make_affiliate(code="ann")
    with pytest.raises(NotFound):
        delete_affiliate(row)
    with pytest.raises(NotFound):
        record_referral("ann")
    with pytest.raises(NotFound):
        earn_commission(row, 10, "EUR")
    with pytest.raises(Conflict, match="deleted"):
        request_withdrawal(row, 10, "EUR")


# --- service ------------------------------------------------------------------------------------------------------


def test_the_share_of_a_sale_is_rounded_down_and_credited_once() -> None:
    row = make_affiliate(commission_basis_points=1250)
    first = earn_commission(row, 999, "EUR", reference="order-1")
    assert (first.amount_minor, stored(row).balance_minor) == (124, 124)
    assert earn_commission(row, 999, "EUR", reference="order-1") == first
    assert earn_commission(row, 7, "EUR", reference="order-2").amount_minor == 0
    earn_commission(row, 8, "EUR")
    earn_commission(row, 8, "EUR")
    assert stored(row).balance_minor == 126
    assert list(AffiliateEntry.objects.values_list("amount_minor", flat=True)) == [1, 1, 0, 124]
    assert AuditEvent.objects.filter(action="affiliate.commission_earned").count() == 4


@pytest.mark.parametrize(
    ("sale", "currency", "reference"),
    [(1, "USD", ""), (-1, "EUR", ""), (2**53, "EUR", ""), (1, "EUR", "x" * 101), (1, "EUR", "\0"), (1, "eur", "")],
)
def test_sales_that_are_refused(sale: int, currency: str, reference: str) -> None:
    row = make_affiliate()
    with pytest.raises(InvalidInput):
        earn_commission(row, sale, currency, reference=reference)
    assert not AffiliateEntry.objects.exists()


def test_a_balance_never_grows_beyond_what_json_can_tell() -> None:
    row = make_affiliate(balance=2**53 - 1)
    with pytest.raises(Conflict):
        earn_commission(row, 1, "EUR")
    assert stored(row).balance_minor == 2**53 - 1


def test_a_suspended_one_earns_nothing() -> None:
    row = update_affiliate(make_affiliate(balance=5), {"status": "suspended"})
    with pytest.raises(NotFound):
        record_referral(row.code)
    with pytest.raises(Conflict, match="is suspended"):
        earn_commission(row, 10, "EUR")
    with pytest.raises(Conflict, match="is suspended"):
        request_withdrawal(row, 5, "EUR")
    assert (stored(row).balance_minor, stored(row).referrals) == (5, 0)


def test_a_referral_counts_for_the_code_of_the_tenant() -> None:
    tenant = make_tenant()
    own, other = make_affiliate(tenant, code="ann"), make_affiliate(code="ann")
    record_referral("ann", tenant_id=tenant.pk)
    record_referral("ann", tenant_id=tenant.pk)
    assert (stored(own).referrals, stored(other).referrals) == (2, 0)
    for code in ("", "ANN", "ann\0", "ann' OR 1=1"):
        with pytest.raises(NotFound):
            record_referral(code, tenant_id=tenant.pk)


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "Not a slug"}, {"code": "x" * 51}, {"name": " "}, {"email": "nobody"}, {"currency": "euro"},
        {"currency": "EUR\n"}, {"commission_basis_points": 10_001}, {"commission_basis_points": -1},
        {"commission_basis_points": "10"}, {"balance_minor": 10}, {"status": "gone"}, {"user_id": "user_none"},
    ],
)  # fmt: skip
def test_input_that_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        make_affiliate(**wrong)
    assert not Affiliate.objects.exists()


def test_neither_user_nor_tenant_of_another() -> None:
    mine, theirs = make_tenant(), make_tenant()
    account = Account.objects.get(user=make_user(tenant=theirs))
    with pytest.raises(InvalidInput, match="no user of the same tenant"):
        make_affiliate(mine, user_id=account.pk)
    body = {"code": "a", "name": "A", "email": "a@example.com", "commission_basis_points": 1, "currency": "EUR"}
    with pytest.raises(NotFound):
        create_affiliate({**body, "tenant_id": theirs.pk}, Scope(mine.pk))
    assert create_affiliate(body, Scope(mine.pk)).tenant == mine
    with pytest.raises(Conflict):
        create_affiliate(body, Scope(mine.pk))
    with pytest.raises(InvalidInput):
        update_affiliate(make_affiliate(mine), {"currency": "USD"})
    with pytest.raises(NotFound):
        find_affiliate(make_affiliate(theirs).pk, Scope(mine.pk))


def test_the_database_itself_refuses_a_balance_below_zero() -> None:
    row = make_affiliate(balance=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Affiliate.objects.filter(pk=row.pk).update(balance_minor=-1)
