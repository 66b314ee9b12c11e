"""Withdrawals: reserved at request, decided once, and the ledger always adds up to the balance."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice.affiliate_ledger import MOST_MINOR
from external_apis.backoffice.affiliates import earn_commission
from external_apis.backoffice.models import Affiliate, AffiliateEntry, Withdrawal, WithdrawalStatus
from external_apis.backoffice.withdrawals import TRANSITIONS, decide_withdrawal, request_withdrawal
from external_apis.errors import Conflict, InvalidInput
from external_apis.models import AuditEvent
from tests.affiliates import make_affiliate, make_withdrawal
from tests.connections.test_audit_everywhere import _refusing_events
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant
from tests.rest import with_key

pytestmark = pytest.mark.django_db
URL = f"{EXTERNAL}/withdrawals"
PENDING, APPROVED, PAID, REJECTED = WithdrawalStatus


def balance_of(row: Affiliate) -> int:
    """The balance, which is the sum of the ledger."""
    balance = Affiliate.objects.get(pk=row.pk).balance_minor
    assert balance == (AffiliateEntry.objects.filter(affiliate=row).aggregate(sum=Sum("amount_minor"))["sum"] or 0)
    return balance


def decide(withdrawal_id: str, status: str, **told: str) -> Any:
    return with_key().send("put", URL, {"id": withdrawal_id, "status": status, **told})


def moved(row: Withdrawal, *statuses: WithdrawalStatus) -> Withdrawal:
    for status in statuses:
        row = decide_withdrawal(row, status)
    return row


# --- the status machine -------------------------------------------------------------------------------------------

WAYS = {PENDING: (), APPROVED: (APPROVED,), PAID: (APPROVED, PAID), REJECTED: (REJECTED,)}


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("status", WithdrawalStatus)
@pytest.mark.parametrize("present", WithdrawalStatus)
def test_every_pair_of_statuses(present: WithdrawalStatus, status: WithdrawalStatus, is_told: bool) -> None:
    """What is approved is rejected by those alone who say that they know it to be approved."""
    row = moved(make_withdrawal(amount=500), *WAYS[present])
    events = AuditEvent.objects.count()
    response = decide(row.pk, status.value, **({"from": present.value} if is_told else {}))
    allowed = {(PENDING, APPROVED), (PENDING, REJECTED), (APPROVED, PAID), (APPROVED, REJECTED)}
    is_moved = (present, status) in allowed and (is_told or (present, status) != (APPROVED, REJECTED))
    if is_moved:
        told = data_of(response)
        assert (told["status"], told["decidedBy"]) == (status.value, "key:ADMIN_API_KEY")
        event = AuditEvent.objects.get(action=f"withdrawal.{status.value}", actor="key:ADMIN_API_KEY")
        assert event.changes == {"status": [present.value, status.value]}
    else:
        assert failure_of(response) == (409, "CONFLICT")
        after = [new.value for old, new in sorted(allowed) if old == present]
        details = response.json()["error"]["details"]
        assert (details["status"], sorted(details["allowed"])) == (present.value, sorted(after))
        assert AuditEvent.objects.count() == events
    is_back = REJECTED in {present, status} and (present == REJECTED or is_moved)
    assert balance_of(row.affiliate) == (500 if is_back else 0)


def test_what_is_told_of_one() -> None:
    row = make_withdrawal(make_tenant(), amount=500)
    told = data_of(decide(row.pk, "approved"))
    assert data_of(with_key().get(URL)) == [told]
    assert set(told) == {
        "id", "affiliateId", "affiliateCode", "affiliateName", "tenantId", "amountMinor", "currency", "status",
        "decidedAt", "decidedBy", "createdAt", "updatedAt",
    }  # fmt: skip
    assert (told["amountMinor"], told["currency"], told["tenantId"]) == (500, "EUR", row.tenant_id)
    assert told["decidedAt"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, ["id", "status"]),
        ({"id": "wdr_1", "status": "gone"}, ["status"]),
        ({"id": "wdr_1", "status": "PAID"}, ["status"]),
        ({"id": "wdr_1", "status": "paid", "from": "gone"}, ["from"]),
        ({"id": "", "status": "paid"}, ["id"]),
        ({"id": "wdr_\0", "status": "paid"}, None),
        ({"id": ["wdr_1"], "status": "paid"}, ["id"]),
        ({"id": "wdr_1", "status": "paid", "amountMinor": 1}, ["amountMinor"]),
        (["wdr_1", "paid"], None),
    ],
)
def test_bodies_that_are_refused(body: Any, named: list[str] | None) -> None:
    response = with_key().send("put", URL, body)
    assert failure_of(response) == (400, "VALIDATION_ERROR")
    if named is not None:
        assert named_by(response) == named


def test_an_id_of_nothing_or_of_another_tenant() -> None:
    theirs, mine = make_withdrawal(make_tenant()), make_tenant()
    client = client_of(make_key(tenant=mine).token)
    answers = [
        client.send("put", URL, {"id": pk, "status": "paid"}) for pk in (theirs.pk, "wdr_none", "wdr_" + "0" * 26)
    ]
    assert {failure_of(answer) for answer in answers} == {(404, "NOT_FOUND")}
    assert Withdrawal.objects.get(pk=theirs.pk).status == PENDING


def test_scopes_and_test_keys() -> None:
    row = make_withdrawal()
    body = {"id": row.pk, "status": "approved"}
    reader, writer, other = (
        client_of(make_key(scopes=[scope]).token)
        for scope in ("withdrawals:read", "withdrawals:write", "affiliates:write")
    )
    for client in (reader, other, client_of(make_key(mode="test").token)):
        assert failure_of(client.send("put", URL, body)) == (403, "FORBIDDEN")
    assert failure_of(other.get(URL)) == (403, "FORBIDDEN")
    assert data_of(client_of(make_key(mode="test").token).get(URL)) == []
    assert len(data_of(reader.get(URL))) == 1
    assert data_of(writer.send("put", URL, body))["status"] == "approved"


def test_lists_by_page_search_status_and_tenant() -> None:
    mine = make_tenant()
    rows = [make_withdrawal(mine), make_withdrawal(mine), make_withdrawal(make_tenant())]
    moved(rows[1], APPROVED)
    client = client_of(make_key(tenant=mine).token)

    def listed(query: str) -> list[str]:
        return [item["id"] for item in data_of(client.get(f"{URL}?{query}"))]

    assert listed("") == [rows[1].pk, rows[0].pk]
    assert listed("status=approved") == [rows[1].pk]
    assert listed("status=paid") == []
    assert listed(f"search={rows[0].affiliate.code.upper()}@") == [rows[0].pk]
    assert listed(f"search={rows[0].pk}") == [rows[0].pk]
    assert listed(f"search={rows[2].pk}") == []
    assert listed("perPage=1&page=2") == [rows[0].pk]
    assert checked(client.get(f"{URL}?perPage=1"))["pagination"]["total"] == 2
    assert failure_of(client.get(f"{URL}?status=gone")) == (400, "VALIDATION_ERROR")


def test_a_list_costs_the_same_queries_for_one_and_for_thirty() -> None:
    client, counts = with_key(), []
    for number in (1, 29):
        for _ in range(number):
            make_withdrawal()
        with CaptureQueriesContext(connection) as captured:
            assert data_of(client.get(f"{URL}?perPage=100"))
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 3


# --- money --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "currency"), [(0, "EUR"), (-5, "EUR"), (2**53, "EUR"), (5, "USD"), (5, "")])
def test_requests_that_are_refused(amount: int, currency: str) -> None:
    row = make_affiliate(balance=500)
    with pytest.raises(InvalidInput):
        request_withdrawal(row, amount, currency)
    assert not Withdrawal.objects.exists()
    assert balance_of(row) == 500


def test_never_more_than_the_balance() -> None:
    row = make_affiliate(balance=500)
    with pytest.raises(Conflict) as refused:
        request_withdrawal(row, 501, "EUR")
    assert refused.value.details == {"balanceMinor": 500, "currency": "EUR"}
    assert not Withdrawal.objects.exists()
    request_withdrawal(row, 500, "EUR")
    assert balance_of(row) == 0


def test_what_is_reserved_always_finds_room_in_the_balance_again() -> None:
    row = make_affiliate(balance=MOST_MINOR)
    withdrawal = moved(request_withdrawal(row, 500, "EUR"), APPROVED)
    with pytest.raises(Conflict):
        earn_commission(row, 1, "EUR")
    decide_withdrawal(withdrawal, REJECTED, APPROVED)
    assert balance_of(row) == MOST_MINOR
    moved(request_withdrawal(row, 500, "EUR"), APPROVED, PAID)
    earn_commission(row, 500, "EUR")
    assert balance_of(row) == MOST_MINOR


def test_a_decision_without_its_event_is_none() -> None:
    row = make_withdrawal(amount=500)
    with _refusing_events(), pytest.raises(DatabaseError), transaction.atomic():
        decide_withdrawal(row, REJECTED)
    assert Withdrawal.objects.get(pk=row.pk).status == PENDING
    assert balance_of(row.affiliate) == 0
    with _refusing_events(), pytest.raises(DatabaseError), transaction.atomic():
        request_withdrawal(make_affiliate(), 1, "EUR")


@pytest.mark.parametrize("seed", range(4))
def test_the_ledger_is_the_balance_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    row = make_affiliate()
    earned = 0
    for _ in range(40):
        withdrawal = Withdrawal.objects.order_by("?").first()
        try:
            match chance.randrange(3):
                case 0:
                    earned += earn_commission(row, chance.randrange(1000), "EUR").amount_minor
                case 1:
                    request_withdrawal(row, chance.randrange(1, 900), "EUR")
                case 2 if withdrawal:
                    known = WithdrawalStatus(withdrawal.status)
                    decide_withdrawal(withdrawal, chance.choice(list(WithdrawalStatus)), known)
        except Conflict:
            pass
        taken = Withdrawal.objects.exclude(status=REJECTED).aggregate(sum=Sum("amount_minor"))["sum"] or 0
        assert balance_of(row) == earned - taken
    assert {status for status in TRANSITIONS if Withdrawal.objects.filter(status=status).exists()} - {PENDING}


# --- at once ------------------------------------------------------------------------------------------------------


def at_once(*acts: Callable[[], object]) -> list[object]:
    """What each returned or raised, all of them begun together on connections of their own."""
    barrier = Barrier(len(acts))

    def run(act: Callable[[], object]) -> object:
        barrier.wait(10)
        try:
            return act()
        except Conflict as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("present", "first", "second"),
    [(PENDING, APPROVED, APPROVED), (PENDING, APPROVED, REJECTED), (APPROVED, PAID, REJECTED)],
)
@pytest.mark.parametrize("is_told", [False, True])
def test_two_admins_at_once_give_one_transition_and_one_conflict(
    present: WithdrawalStatus, first: WithdrawalStatus, second: WithdrawalStatus, is_told: bool
) -> None:
    told = {"from": present.value} if is_told or present == APPROVED else {}
    for _ in range(3):
        row = moved(make_withdrawal(amount=500), *WAYS[present])
        decisions = (partial(decide, row.pk, status.value, **told) for status in (first, second))
        answers = at_once(*decisions)
        assert sorted(answer.status_code for answer in answers) == [200, 409]  # type: ignore[attr-defined]
        after = Withdrawal.objects.get(pk=row.pk).status
        assert balance_of(row.affiliate) == (500 if after == REJECTED else 0)
        assert AuditEvent.objects.filter(object_id=row.pk, actor="key:ADMIN_API_KEY").count() == 1


def test_whoever_comes_too_late_is_told_what_it_is_now() -> None:
    row = moved(make_withdrawal(), APPROVED)
    late = decide(row.pk, "rejected")
    assert failure_of(late) == (409, "CONFLICT")
    error = late.json()["error"]
    assert error["message"] == f"The withdrawal {row.pk} is approved, and pending was expected."
    assert error["details"] == {"status": "approved", "allowed": ["paid", "rejected"]}


@pytest.mark.django_db(transaction=True)
def test_eight_requests_at_once_take_no_more_than_there_is() -> None:
    row = make_affiliate(balance=500)
    answers = at_once(*[lambda: request_withdrawal(row, 100, "EUR")] * 8)
    assert sum(isinstance(answer, Withdrawal) for answer in answers) == 5
    assert balance_of(row) == 0
    rejections = [partial(decide_withdrawal, row, REJECTED) for row in answers if isinstance(row, Withdrawal)]
    at_once(*rejections, lambda: earn_commission(row, 7, "EUR"))
    assert balance_of(row) == 507
