"""``/api/external/users``: who is found by whom, page by page."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from external_apis import user_accounts
from external_apis.backoffice import users
from external_apis.models import Account
from external_apis.tasks import open_accounts
from external_apis.tenancy import EVERYTHING, Scope
from external_apis.user_accounts import account_of
from tests import factories
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
USERS = f"{EXTERNAL}/users"


@pytest.fixture
def client() -> RestClient:
    return client_of(make_key(scopes=["users:read"]).token)


def make_user(*args: Any, **fields: Any) -> User:
    """A user whose id comes after the one before: ids of one millisecond are in no order."""
    time.sleep(0.001)
    return factories.make_user(*args, **fields)


def found(client: RestClient, **query: Any) -> list[str]:
    return [item["username"] for item in data_of(client.get(USERS, query))]


def test_what_is_told_of_a_user(client: RestClient) -> None:
    home = make_tenant()
    user = make_user("ada", tenant=home, first_name="Ada", last_name="Lovelace", email="ada@example.com")
    account = user.external_apis_account
    Account.objects.filter(pk=account.pk).update(
        plan="starter", tokens=7, created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    told = data_of(client.get(f"{USERS}/{account.pk}"))
    assert told.pop("updatedAt").endswith("Z")
    assert told == {
        "id": account.pk, "username": "ada", "name": "Ada Lovelace", "email": "ada@example.com", "status": "active",
        "plan": "starter", "tokens": 7, "tenantId": home.pk, "isStaff": True, "createdAt": "2026-01-02T03:04:05.000Z",
        "lastLoginAt": None,
    }  # fmt: skip
    assert data_of(client.get(USERS))[0]["id"] == account.pk


def test_a_user_without_a_plan_or_an_address(client: RestClient) -> None:
    account = make_user("bare", is_active=False).external_apis_account
    told = data_of(client.get(f"{USERS}/{account.pk}"))
    assert (told["plan"], told["email"], told["status"], told["tenantId"]) == (None, "", "inactive", None)


def test_a_search_by_name_address_and_id(client: RestClient) -> None:
    ada = make_user("ada", first_name="Ada", last_name="Lovelace", email="countess@example.com")
    make_user("bob", first_name="Bob", last_name="Straße", email="bob@example.org")
    for text in ("lovel", "ADA", "a l", "countess@", "ess@exa", ada.external_apis_account.pk):
        assert found(client, search=text) == ["ada"], text
    assert found(client, search="straße") == ["bob"]
    assert found(client, search="example") == ["bob", "ada"]
    assert found(client, search="user_00000000000000000000000000") == []


def test_one_or_two_letters_begin_a_word(client: RestClient) -> None:
    make_user("ada", first_name="Ada", last_name="Lovelace")
    assert [found(client, search=text) for text in ("a", "lo", "ov", "da")] == [["ada"], ["ada"], [], []]


@pytest.mark.parametrize("text", ["%", "_", "\\", "%%%", "'; DROP TABLE auth_user; --", "user_", "ﷺ" * 60])
def test_a_search_takes_its_text_for_what_it_is(client: RestClient, text: str) -> None:
    make_user("ada")
    make_user("per%cent", last_name="50%%%")
    assert found(client, search=text) == []
    assert found(client, search="50%%%") == ["per%cent"]


def test_letters_of_all_alphabets_are_found_in_any_case(client: RestClient) -> None:
    make_user("gogol", first_name="Николай", last_name="Гоголь")
    make_user("taro", first_name="太郎", last_name="田中")
    for text in ("николай", "ГОГОЛЬ", "ай гоголь", "ни"):
        assert found(client, search=text) == ["gogol"], text
    assert found(client, search="郎 田") == found(client, search="田中") == ["taro"]


def test_a_text_without_a_letter_or_a_digit_finds_nobody_and_reads_no_table(client: RestClient) -> None:
    make_user("@@@", email="a@@@example.com")
    rows = users.filtered(users.visible_users(EVERYTHING), search="@@@")
    assert rows.query.is_empty()
    assert found(client, search="@@@") == []


def test_what_no_text_can_be_is_refused(client: RestClient) -> None:
    assert failure_of(client.get(USERS, {"search": "a\0b"})) == (400, "VALIDATION_ERROR")
    assert failure_of(client.get(USERS, {"search": "a" * 201})) == (400, "VALIDATION_ERROR")
    assert named_by(client.get(USERS, {"status": "gone"})) == ["status"]
    assert failure_of(client.get(f"{USERS}/user_%F0%9F%92%A9")) == (404, "NOT_FOUND")


def test_filters_by_status_and_plan(client: RestClient) -> None:
    for name, is_active, plan in (("ada", True, "free"), ("bob", False, "free"), ("cy", True, "starter")):
        account = make_user(name, is_active=is_active).external_apis_account
        Account.objects.filter(pk=account.pk).update(plan=plan)
    assert found(client, status="active") == ["cy", "ada"]
    assert found(client, status="inactive") == ["bob"]
    assert found(client, plan="free", status="active") == ["ada"]
    assert found(client, plan="none-such") == []
    assert found(client, search="bob", plan="starter") == []


def test_pages(client: RestClient) -> None:
    for number in range(5):
        make_user(f"user{number}")
    body = checked(client.get(USERS, {"page": 2, "perPage": 2}))
    assert [item["username"] for item in body["data"]] == ["user2", "user1"]
    assert body["pagination"] == {
        "page": 2, "perPage": 2, "total": 5, "totalPages": 3, "hasNext": True, "hasPrev": True,
    }  # fmt: skip


def test_as_many_queries_for_thirty_users_as_for_one(client: RestClient) -> None:
    def count(**query: Any) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            data_of(client.get(USERS, {"perPage": 100, **query}))
        return len(queries)

    make_user("name-0", tenant=make_tenant())
    count()  # what a process learns once
    few = [count(), count(search="name"), count(status="active")]
    for number in range(1, 30):
        make_user(f"name-{number}", tenant=make_tenant())
    assert [count(), count(search="name"), count(status="active")] == few


def test_a_bound_key_sees_its_tenant_alone() -> None:
    mine, theirs = make_tenant(), make_tenant()
    make_user("mine", tenant=mine)
    other = make_user("theirs", tenant=theirs).external_apis_account
    boss = make_user("boss", tenant=mine, is_superuser=True).external_apis_account
    make_user("nobodys")
    client = client_of(make_key(tenant=mine, scopes=["users:read", "users:write"]).token)
    assert found(client) == ["mine"]
    for account in (other, boss):
        for method, path, body in (
            ("get", "", None),
            ("delete", "", None),
            ("patch", "/plan", {"plan": "free"}),
            ("patch", "/tokens", {"tokens": 1, "operation": "add"}),
            ("get", "/sessions", None),
            ("delete", "/sessions/ses_1", None),
        ):
            answer = client.send(method, f"{USERS}/{account.pk}{path}", body)
            assert failure_of(answer) == (404, "NOT_FOUND"), (method, path)
    assert found(client, search=other.pk) == []


def test_a_test_key_sees_and_changes_nobody() -> None:
    account = make_user("ada").external_apis_account
    client = client_of(make_key(mode="test").token)
    assert found(client) == []
    assert failure_of(client.get(f"{USERS}/{account.pk}")) == (404, "NOT_FOUND")
    for method, path, body in (
        ("patch", "/plan", {"plan": "free"}),
        ("patch", "/tokens", {"tokens": 1, "operation": "add"}),
        ("delete", "", None),
        ("delete", "/sessions/ses_1", None),
    ):
        answer = client.send(method, f"{USERS}/{account.pk}{path}", body)
        assert failure_of(answer) == (403, "FORBIDDEN"), (method, path)


def test_reading_and_writing_are_scopes_of_their_own(client: RestClient) -> None:
    account = make_user("ada").external_apis_account
    writer = client_of(make_key(scopes=["users:write"]).token)
    assert failure_of(writer.get(USERS)) == (403, "FORBIDDEN")
    assert failure_of(client.send("delete", f"{USERS}/{account.pk}")) == (403, "FORBIDDEN")


def test_every_user_has_an_account() -> None:
    assert make_user("saved").external_apis_account.pk.startswith("user_")
    (silent,) = User.objects.bulk_create([User(username="silent")])
    assert not Account.objects.filter(user=silent).exists()
    assert account_of(silent) == account_of(silent)


def test_users_who_were_stored_past_all_signals_get_their_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_accounts, "_BATCH", 2)
    joined = datetime(2020, 1, 1, tzinfo=UTC)
    kept = make_user("kept").external_apis_account
    User.objects.bulk_create([User(username=f"silent{number}", date_joined=joined) for number in range(5)])
    open_accounts()
    open_accounts()
    assert Account.objects.count() == User.objects.count() == 6
    assert Account.objects.get(user__username="kept") == kept
    assert set(Account.objects.exclude(pk=kept.pk).values_list("created_at", flat=True)) == {joined}
    assert open_accounts.name in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}


def test_the_migration_opens_accounts_for_old_users_and_goes_on_where_it_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migration = import_module("external_apis.migrations.0009_accounts_of_all_users")
    monkeypatch.setattr(migration, "_BATCH", 2)
    joined = datetime(2020, 1, 1, tzinfo=UTC)
    User.objects.bulk_create([User(username=f"old{number}", date_joined=joined) for number in range(5)])
    kept = account_of(User.objects.get(username="old3"))
    for _ in range(2):
        migration.open_accounts(apps, SimpleNamespace(connection=connection))
    assert Account.objects.count() == User.objects.count() == 5
    assert Account.objects.get(user__username="old3") == kept
    assert set(Account.objects.exclude(pk=kept.pk).values_list("created_at", flat=True)) == {joined}


def test_a_rare_name_is_found_in_the_index() -> None:
    """With few rows the planner would read them all, so it is told not to: what counts is that it can."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT show_trgm('николай')")
        assert cursor.fetchone() != ([],), "lc_ctype leaves the letters beyond ASCII out"
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_indexscan = off")
    for text in ("lovelace", "lo", "Николай", "田中太"):
        with CaptureQueriesContext(connection) as queries:
            users.filtered(users.visible_users(EVERYTHING), search=text)
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {queries[0]['sql']}")
            assert "external_apis_user_search" in str(cursor.fetchall()), text


@pytest.mark.parametrize("few", [0, 2, 500])
def test_many_are_found_as_few_are(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(users, "_FEW", few)
    home, other = make_tenant(), make_tenant()
    for number in range(3):
        make_user(f"ada{number}", tenant=home if number else other)
    make_user("bob", tenant=home)
    found = users.filtered(users.visible_users(EVERYTHING), search="ADA")
    assert [row.user.username for row in found] == ["ada2", "ada1", "ada0"]
    assert len(users.filtered(users.visible_users(Scope(home.pk)), search="ad")) == 2
    assert not users.filtered(users.visible_users(EVERYTHING), search="ada", status="inactive")
