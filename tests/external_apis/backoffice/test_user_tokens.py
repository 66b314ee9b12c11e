"""Plans and tokens of users: what is granted, what is refused, and what the ledger says."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction

from external_apis.backoffice import plans, token_balances
from external_apis.backoffice.models import MOST_TOKENS, Plan, PlanPeriod, TokenChange
from external_apis.errors import Conflict, InvalidInput
from external_apis.models import Account, AuditEvent
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant, make_user
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
USERS = f"{EXTERNAL}/users"


@pytest.fixture
def client() -> RestClient:
    return client_of(make_key(scopes=["users:write"], title="billing").token)


@pytest.fixture
def ada() -> Account:
    account: Account = make_user("ada", tenant=make_tenant()).external_apis_account
    return account


@pytest.fixture(autouse=True)
def _plans() -> None:
    for slug, tokens, price in (("free", 10, 0), ("professional", 1_000, 2_900)):
        Plan.objects.update_or_create(slug=slug, defaults={"name": slug, "tokens": tokens, "price_minor": price})


def adjusted(client: RestClient, account: Account, operation: str, tokens: Any) -> Any:
    return client.send("patch", f"{USERS}/{account.pk}/tokens", {"tokens": tokens, "operation": operation})


def test_set_add_and_subtract(client: RestClient, ada: Account) -> None:
    answers = [
        adjusted(client, ada, operation, tokens)
        for operation, tokens in (("set", 100), ("add", 20), ("subtract", 50), ("subtract", 70), ("add", 0))
    ]
    assert [data_of(answer)["tokens"] for answer in answers] == [100, 120, 70, 0, 0]
    lines = TokenChange.objects.filter(account=ada).order_by("at")
    assert [(line.operation, line.before, line.after, line.delta) for line in lines] == [
        ("set", 0, 100, 100), ("add", 100, 120, 20), ("subtract", 120, 70, -50), ("subtract", 70, 0, -70),
        ("add", 0, 0, 0),
    ]  # fmt: skip
    first = lines[0]
    assert first.tenant_id == ada.tenant_id
    assert first.actor.startswith("key:")
    assert first.request_id == answers[0].json()["meta"]["requestId"]
    event = AuditEvent.objects.filter(action="user.tokens_changed", object_id=ada.pk).earliest("id")
    assert (event.changes, event.tenant_id) == ({"tokens": ["0", "100"]}, ada.tenant_id)


@pytest.mark.parametrize(
    ("operation", "tokens"), [("subtract", 6), ("subtract", MOST_TOKENS), ("add", MOST_TOKENS - 4)]
)
def test_never_below_zero_and_never_above_what_can_be_told(
    client: RestClient, ada: Account, operation: str, tokens: int
) -> None:
    token_balances.adjust(ada, "set", 5)
    answer = adjusted(client, ada, operation, tokens)
    assert failure_of(answer) == (409, "CONFLICT")
    assert checked(answer)["error"]["details"] == {"tokens": 5}
    ada.refresh_from_db()
    assert ada.tokens == 5
    assert TokenChange.objects.count() == 1


@pytest.mark.parametrize("tokens", [-1, 1.5, "5", True, None, MOST_TOKENS + 1, 10**400])
def test_what_is_no_number_of_tokens(client: RestClient, ada: Account, tokens: Any) -> None:
    answer = adjusted(client, ada, "add", tokens)
    assert failure_of(answer) == (400, "VALIDATION_ERROR")


def test_the_body_is_checked(client: RestClient, ada: Account) -> None:
    assert named_by(adjusted(client, ada, "double", 1)) == ["operation"]
    path = f"{USERS}/{ada.pk}/tokens"
    assert named_by(client.send("patch", path, {"tokens": 1})) == ["operation"]
    assert named_by(client.send("patch", path, {"tokens": 1, "operation": "add", "plan": "free"})) == ["plan"]


def test_the_database_itself_takes_no_negative_balance(ada: Account) -> None:
    with pytest.raises(IntegrityError, match="account_tokens_not_negative"), transaction.atomic():
        Account.objects.filter(pk=ada.pk).update(tokens=-1)


@pytest.mark.django_db(transaction=True)
def test_two_hundred_adjustments_at_once_sum_up_exactly() -> None:
    account = make_user("busy").external_apis_account
    token_balances.adjust(account, "set", 60)

    def adjust(number: int) -> int:
        try:
            operation: token_balances.Operation = "subtract" if number % 2 else "add"
            token_balances.adjust(account, operation, 3 if number % 2 else number)
        except Conflict:  # nothing was left to take at that moment
            return 0
        else:
            return -3 if number % 2 else number
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        deltas = list(threads.map(adjust, range(200)))
    account.refresh_from_db()
    assert account.tokens == 60 + sum(deltas)
    lines = list(TokenChange.objects.order_by("at"))
    assert len(lines) == 1 + len([delta for number, delta in enumerate(deltas) if delta or not number])
    assert sum(line.delta for line in lines) == account.tokens
    assert all(line.after - line.before == line.delta and line.after >= 0 for line in lines)


def test_a_plan_brings_its_allowance(client: RestClient, ada: Account) -> None:
    token_balances.adjust(ada, "set", 5_000)
    with time_machine.travel("2026-03-01T00:00:00Z", tick=False):
        told = data_of(client.send("patch", f"{USERS}/{ada.pk}/plan", {"plan": "professional"}))
    assert (told["plan"], told["tokens"]) == ("professional", 1_000)
    line = TokenChange.objects.get(operation="plan")
    assert (line.before, line.after) == (5_000, 1_000)
    event = AuditEvent.objects.get(action="user.plan_changed")
    assert event.changes == {"plan": [None, "professional"], "tokens": ["5000", "1000"]}
    period = PlanPeriod.objects.get()
    assert (period.account_id, period.tenant_id, period.plan) == (ada.pk, ada.tenant_id, "professional")
    assert (period.price_minor, period.currency, period.ended_at) == (2_900, "USD", None)


def test_a_period_ends_where_the_next_one_begins(ada: Account) -> None:
    with time_machine.travel("2026-03-01T00:00:00Z", tick=False):
        plans.change_plan(ada, "professional")
    Plan.objects.filter(slug="professional").update(price_minor=9_999)
    with time_machine.travel("2026-03-11T00:00:00Z", tick=False):
        plans.change_plan(ada, "free")
    first, second = PlanPeriod.objects.order_by("started_at")
    assert (first.plan, first.price_minor, first.ended_at) == ("professional", 2_900, second.started_at)
    assert (second.plan, second.ended_at) == ("free", None)


def test_the_same_plan_again_grants_nothing(client: RestClient, ada: Account) -> None:
    plans.change_plan(ada, "professional")
    token_balances.adjust(ada, "subtract", 999)
    told = data_of(client.send("patch", f"{USERS}/{ada.pk}/plan", {"plan": "professional"}))
    assert told["tokens"] == 1
    assert PlanPeriod.objects.count() == 1
    assert AuditEvent.objects.filter(action="user.plan_changed").count() == 1


@pytest.mark.parametrize("plan", ["gold", "Free", "old"])
def test_a_plan_that_cannot_be_given(client: RestClient, ada: Account, plan: str) -> None:
    Plan.objects.create(slug="old", name="Old", is_active=False)
    answer = client.send("patch", f"{USERS}/{ada.pk}/plan", {"plan": plan})
    assert failure_of(answer) == (400, "VALIDATION_ERROR")
    details = checked(answer)["error"]["details"]
    assert {"free", "professional"} <= set(details["plans"])
    assert "professional" in details["errors"][0]["message"]
    ada.refresh_from_db()
    assert (ada.plan, PlanPeriod.objects.count()) == ("", 0)


@pytest.mark.parametrize("body", [{}, {"plan": ""}, {"plan": None}, {"plan": ["free"]}, {"plan": "x" * 51}, [], "free"])
def test_a_body_without_a_plan(client: RestClient, ada: Account, body: Any) -> None:
    assert failure_of(client.send("patch", f"{USERS}/{ada.pk}/plan", body)) == (400, "VALIDATION_ERROR")


def test_a_plan_that_somebody_is_on_stays(ada: Account) -> None:
    plans.change_plan(ada, "free")
    with pytest.raises(Conflict) as refused:
        plans.delete_plan(Plan.objects.get(slug="free"))
    assert refused.value.details == {"users": 1}
    plans.delete_plan(Plan.objects.get(slug="professional"))
    assert AuditEvent.objects.get(action="plan.deleted").changes == {"slug": ["professional", None]}


@pytest.mark.django_db(transaction=True)
def test_nobody_is_put_on_a_plan_while_it_is_deleted() -> None:
    someone = make_user("ada").external_apis_account
    outcomes = set()
    for number in range(6):
        plan = Plan.objects.create(slug=f"brief-{number}", name="Brief")
        together = Barrier(2)

        def attempt(change: Callable[[], object], together: Barrier = together) -> bool:
            together.wait()
            try:
                change()
            except (Conflict, InvalidInput):
                return False
            else:
                return True
            finally:
                connection.close()

        changes = (partial(plans.change_plan, someone, plan.slug), partial(plans.delete_plan, plan))
        with ThreadPoolExecutor(2) as threads:
            outcomes.add(tuple(threads.map(attempt, changes)))
        is_there = Plan.objects.filter(slug=plan.slug).exists()
        assert is_there == (Account.objects.get(pk=someone.pk).plan == plan.slug)
    assert outcomes <= {(True, False), (False, True)}
