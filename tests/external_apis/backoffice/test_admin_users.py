"""The admin's pages of accounts, users and plans: the same permissions and the same services as the API's."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice import plans, token_balances
from external_apis.backoffice.models import Plan, TokenChange, UserSession
from external_apis.models import Account, AuditEvent, Tenant
from external_apis.scopes import permissions_of
from tests.factories import make_connection, make_tenant, make_user

pytestmark = pytest.mark.django_db
LIST = "/admin/external_apis/account/"
VIEW, CHANGE, DELETE = (f"external_apis.{verb}_account" for verb in ("view", "change", "delete"))
SEE, ADD = ("backoffice.view_tokenchange", "backoffice.view_usersession"), "backoffice.add_tokenchange"
END, DELETE_USER = "backoffice.delete_usersession", "auth.delete_user"


@pytest.fixture
def home() -> Tenant:
    return make_tenant()


@pytest.fixture
def ada(home: Tenant) -> Account:
    account: Account = make_user("ada", tenant=home, is_staff=False).external_apis_account
    return account


@pytest.fixture(autouse=True)
def _plans() -> None:
    for slug, tokens in (("free", 10), ("professional", 1_000)):
        Plan.objects.update_or_create(slug=slug, defaults={"name": slug.title(), "tokens": tokens})


def staff(*permissions: str, **fields: Any) -> Client:
    client = Client()
    client.force_login(make_user(permissions=permissions, **fields))
    return client


def page(account: Account, name: str = "change") -> str:
    return f"{LIST}{account.pk}/{name}/"


def errors_of(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def test_a_plan_is_a_choice_and_brings_its_allowance(ada: Account) -> None:
    client = staff(is_superuser=True)
    shown = client.get(page(ada)).content.decode()
    assert "Professional" in shown
    answer = client.post(page(ada), {"plan": "professional", "tenant": ada.tenant_id})
    assert answer.status_code == 302
    ada.refresh_from_db()
    assert (ada.plan, ada.tokens) == ("professional", 1_000)
    assert [event.action for event in AuditEvent.objects.filter(object_id=ada.pk)] == ["user.plan_changed"]
    for plan in ("gold", ""):
        assert client.post(page(ada), {"plan": plan, "tenant": ada.tenant_id}).status_code == 200, plan
    ada.refresh_from_db()
    assert ada.plan == "professional"


def test_a_saved_page_keeps_tokens_that_changed_meanwhile(ada: Account) -> None:
    client, other = staff(is_superuser=True), make_tenant()
    client.get(page(ada))
    token_balances.adjust(ada, "add", 5)
    assert client.post(page(ada), {"plan": "", "tenant": other.pk, "tokens": "99"}).status_code == 302
    ada.refresh_from_db()
    assert (ada.tokens, ada.tenant_id) == (5, other.pk)
    event = AuditEvent.objects.get(action="account.updated")
    assert event.changes["tenant_id"][1] == other.pk


def test_tokens_are_adjusted_beside_their_ledger(ada: Account) -> None:
    client = staff(is_superuser=True)
    answer = client.post(page(ada, "tokens"), {"operation": "add", "tokens": "42"}, follow=True)
    assert "has 42 tokens now" in errors_of(answer)[0]
    assert "+42" in answer.content.decode()
    refused = client.post(page(ada, "tokens"), {"operation": "subtract", "tokens": "43"})
    assert "43 cannot be taken" in refused.content.decode()
    assert client.post(page(ada, "tokens"), {"operation": "add", "tokens": "-1"}).status_code == 200
    assert list(TokenChange.objects.values_list("delta", flat=True)) == [42]


def test_sessions_are_shown_and_ended(ada: Account) -> None:
    client, browser = staff(is_superuser=True), Client()
    browser.force_login(ada.user)
    key, session = browser.session.session_key or "", UserSession.objects.get(account=ada)
    shown = client.get(page(ada, "sessions")).content.decode()
    assert session.pk in shown
    assert key not in shown
    end = page(ada, f"sessions/{session.pk}/end")
    assert client.get(end).status_code == 405
    assert "logged out" in errors_of(client.post(end, follow=True))[0]
    assert not browser.session.exists(key)
    assert "not found" in errors_of(client.post(end, follow=True))[0]


def test_the_permissions_of_the_scopes_and_nothing_less(ada: Account) -> None:
    assert {VIEW, "backoffice.view_plan", "backoffice.view_tokenchange"} <= permissions_of(["users:read"])
    assert {CHANGE, DELETE, ADD, END, DELETE_USER, "backoffice.change_plan"} <= permissions_of(["users:write"])
    reader, writer = staff(VIEW, *SEE), staff(VIEW, CHANGE, *SEE, ADD, END)
    stranger = staff("external_apis.view_tenant", *SEE)
    adjust = {"operation": "add", "tokens": "1"}
    for path in ("change", "tokens", "sessions"):
        assert reader.get(page(ada, path)).status_code == 200, path
        assert stranger.get(page(ada, path)).status_code in (403, 404), path
    assert "Change the balance" not in reader.get(page(ada, "tokens")).content.decode()
    assert reader.post(page(ada, "tokens"), adjust).status_code == 403
    assert reader.post(page(ada), {"plan": "free"}).status_code == 403
    assert reader.post(page(ada, "sessions/ses_1/end")).status_code == 403
    for path in ("tokens", "sessions"):
        assert staff(VIEW, CHANGE, ADD, END).get(page(ada, path)).status_code == 403, path
        assert f"/{path}/" in reader.get(page(ada)).content.decode()
        assert f"/{path}/" not in staff(VIEW).get(page(ada)).content.decode()
    for missing in (CHANGE, ADD):
        held = {VIEW, CHANGE, ADD, *SEE} - {missing}
        assert staff(*held).post(page(ada, "tokens"), adjust).status_code == 403, missing
    assert reader.post(page(ada, "delete"), {"post": "yes"}).status_code == 403
    assert not TokenChange.objects.exists()
    assert writer.post(page(ada, "tokens"), adjust).status_code == 302
    assert writer.post(page(ada, "sessions/ses_1/end")).status_code == 302
    for client in (writer, staff(VIEW, DELETE), staff(VIEW, DELETE_USER)):
        assert client.post(page(ada, "delete"), {"post": "yes"}).status_code == 403
    assert staff(VIEW, DELETE, DELETE_USER).post(page(ada, "delete"), {"post": "yes"}).status_code == 302
    assert not Account.objects.filter(pk=ada.pk).exists()


def test_staff_of_a_tenant_have_its_users_and_move_none(ada: Account, home: Tenant) -> None:
    member = staff(VIEW, CHANGE, DELETE, DELETE_USER, *SEE, ADD, END, tenant=home)
    foreign = make_user("foreign", tenant=make_tenant()).external_apis_account
    boss = make_user("boss", tenant=home, is_superuser=True).external_apis_account
    for account in (foreign, boss):
        for name in ("tokens", "sessions"):
            assert member.get(page(account, name)).status_code == 404, name
        assert member.post(page(account, "tokens"), {"operation": "add", "tokens": "1"}).status_code == 404
        assert member.post(page(account), {"plan": "free"}).status_code in (302, 403, 404)
        assert member.post(page(account, "delete"), {"post": "yes"}).status_code in (302, 403, 404)
    assert member.post(page(ada), {"plan": "free", "tenant": ""}).status_code == 302
    ada.refresh_from_db()
    assert (ada.plan, ada.tenant_id) == ("free", home.pk)
    assert Account.objects.filter(pk__in=[foreign.pk, boss.pk], plan="").count() == 2


def test_nobody_raises_their_own_plan_and_tokens(home: Tenant) -> None:
    for tenant in (home, None):
        member = make_user(tenant=tenant, permissions=[VIEW, CHANGE, *SEE, ADD, END])
        client, own = Client(), member.external_apis_account
        client.force_login(member)
        assert client.get(page(own)).status_code == 200
        assert client.post(page(own), {"plan": "free", "tenant": ""}).status_code == 403
        assert client.post(page(own, "tokens"), {"operation": "add", "tokens": "1"}).status_code == 403
        session = UserSession.objects.get(account=own)
        assert client.post(page(own, f"sessions/{session.pk}/end")).status_code == 302
    assert not Account.objects.exclude(plan="", tokens=0).exists()


def test_superusers_are_for_superusers_to_change(home: Tenant) -> None:
    root = make_user("root", is_superuser=True).external_apis_account
    make_user("spare", is_superuser=True)
    operator = staff(VIEW, CHANGE, DELETE, DELETE_USER, "auth.view_user", "auth.change_user", *SEE, ADD, END)
    assert operator.get(page(root)).status_code == 200
    selected = {"action": "delete_selected", "_selected_action": [root.user_id], "post": "yes"}
    for path, body in (
        (page(root), {"plan": "free", "tenant": ""}),
        (page(root, "tokens"), {"operation": "add", "tokens": "1"}),
        (page(root, "sessions/ses_1/end"), {}),
        (page(root, "delete"), {"post": "yes"}),
        (f"/admin/auth/user/{root.user_id}/delete/", {"post": "yes"}),
        ("/admin/auth/user/", selected),
    ):
        assert operator.post(path, body).status_code == 403, path
    root.refresh_from_db()
    assert (root.plan, root.tokens) == ("", 0)


def test_the_last_owner_stays_one_on_every_page(home: Tenant) -> None:
    boss = make_user("boss", tenant=home).external_apis_account
    root = make_user("root", is_superuser=True)
    client = Client()
    client.force_login(root)
    for tenant in (make_tenant().pk, ""):
        answer = client.post(page(boss), {"plan": "", "tenant": tenant}, follow=True)
        assert "This is the last active staff account" in errors_of(answer)[0]
    facts = {"username": "boss", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "is_active": "on"}
    for user, changes in (
        (boss.user, {}),
        (boss.user, {"is_active": "", "is_staff": "on"}),
        (root, {"username": "root", "is_staff": "on"}),
    ):
        answer = client.post(f"/admin/auth/user/{user.pk}/change/", facts | changes, follow=True)
        assert "This is the last active" in errors_of(answer)[0]
    boss.user.refresh_from_db()
    root.refresh_from_db()
    assert boss.user.is_staff and boss.user.is_active and root.is_superuser  # noqa: PT018
    second = make_user("second", tenant=home)
    assert client.post(f"/admin/auth/user/{boss.user_id}/change/", facts, follow=True).status_code == 200
    boss.user.refresh_from_db()
    assert not boss.user.is_staff
    answer = client.post(page(second.external_apis_account), {"plan": "", "tenant": ""}, follow=True)
    assert "This is the last" in errors_of(answer)[0]


def test_whoever_leaves_a_tenant_takes_nothing_along(ada: Account, home: Tenant) -> None:
    make_user("boss", tenant=home)
    helper = make_user("helper", tenant=home).external_apis_account
    operator, other = staff(VIEW, CHANGE, "external_apis.view_tenant"), make_tenant()
    row = make_connection(tenant=home, owner_id=ada.pk)
    answer = operator.post(page(ada), {"plan": "", "tenant": other.pk}, follow=True)
    assert "are not the other tenant's" in errors_of(answer)[0]
    type(row).objects.filter(pk=row.pk).update(tenant=other)
    assert operator.post(page(ada), {"plan": "", "tenant": other.pk}).status_code == 302
    assert Account.objects.get(pk=ada.pk).tenant == other
    refused = operator.post(page(helper), {"plan": "", "tenant": ""})
    assert "Only superusers take staff from their tenant" in refused.content.decode()
    assert staff(is_superuser=True).post(page(helper), {"plan": "", "tenant": ""}).status_code == 302
    assert Account.objects.get(pk=helper.pk).tenant is None


def test_a_user_is_deleted_as_in_the_api(ada: Account) -> None:
    root = make_user("root", is_superuser=True)
    client = Client()
    client.force_login(root)
    for path in (page(ada, "delete"), f"/admin/auth/user/{ada.user_id}/delete/"):
        connection_row = make_connection(owner_id=ada.pk)
        assert "1 connections" in client.get(path).content.decode()
        client.post(path, {"post": "yes"})
        assert User.objects.filter(pk=ada.user_id).exists(), path
        type(connection_row).objects.filter(pk=connection_row.pk).delete()
    client.post(page(ada, "delete"), {"post": "yes"})
    assert not User.objects.filter(pk=ada.user_id).exists()
    assert AuditEvent.objects.filter(action="user.deleted", object_id=ada.pk).exists()


@pytest.mark.parametrize("is_listed", [True, False])
def test_the_page_of_users_lets_no_last_owner_go(is_listed: bool) -> None:
    root, other = make_user("root", is_superuser=True), make_user("other")
    client = Client()
    client.force_login(root)
    if is_listed:
        selected = {"action": "delete_selected", "_selected_action": [root.pk, other.pk], "post": "yes"}
        answer = client.post("/admin/auth/user/", selected, follow=True)
    else:
        answer = client.post(f"/admin/auth/user/{root.pk}/delete/", {"post": "yes"}, follow=True)
    assert "Nobody deletes their own account." in errors_of(answer)
    assert User.objects.count() == 2
    assert not AuditEvent.objects.filter(action="user.deleted").exists()


def test_plans_are_the_operators_to_change(ada: Account, home: Tenant) -> None:
    plans.change_plan(ada, "free")
    every = [f"backoffice.{verb}_plan" for verb in ("view", "add", "change", "delete")]
    plan = Plan.objects.get(slug="free")
    facts = {"name": "Free!", "tokens": "7", "price_minor": "0", "currency": "EUR", "is_active": "on", "slug": "other"}
    member, operator = staff(*every, tenant=home), staff(*every)
    one = f"/admin/backoffice/plan/{plan.pk}"
    assert member.get("/admin/backoffice/plan/").status_code == 200
    assert member.post(f"{one}/change/", facts).status_code == 403
    assert operator.post(f"{one}/change/", facts).status_code == 302
    plan.refresh_from_db()
    assert (plan.name, plan.tokens, plan.slug) == ("Free!", 7, "free")
    for wrong in ({"currency": "eur"}, {"tokens": str(2**53)}, {"price_minor": "-1"}):
        assert operator.post(f"{one}/change/", facts | wrong).status_code == 200, wrong
    answer = operator.post(f"{one}/delete/", {"post": "yes"}, follow=True)
    assert errors_of(answer) == ["1 users are on the plan free."]
    assert operator.post("/admin/backoffice/plan/add/", facts).status_code == 302
    assert AuditEvent.objects.filter(action__in=("plan.created", "plan.updated")).count() == 2
    operator.post(f"/admin/backoffice/plan/{Plan.objects.get(slug='other').pk}/delete/", {"post": "yes"})
    assert AuditEvent.objects.filter(action="plan.deleted").count() == 1


def test_accounts_are_filtered_by_the_plans_there_are(ada: Account) -> None:
    plans.change_plan(ada, "free")
    make_user("bob")
    client = staff(is_superuser=True)
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(f"{LIST}?plan=free")
    assert [row.pk for row in answer.context["cl"].result_list] == [ada.pk]
    assert "Professional" in answer.content.decode(), "which nobody is on"
    others = client.get(f"{LIST}?plan=(none)").context["cl"].result_list
    assert ada not in others
    assert "bob" in [row.user.username for row in others]
    Plan.objects.create(slug="secret-deal", name="Secret deal", is_active=False)
    assert "Secret deal" in client.get(LIST).content.decode()
    assert "Secret deal" not in staff(VIEW, username="carol", tenant=ada.tenant).get(LIST).content.decode()
    assert not [query for query in queries if "DISTINCT" in query["sql"]], "it would read all accounts"


def test_as_many_queries_for_thirty_accounts_as_for_one(ada: Account) -> None:
    client = staff(is_superuser=True)

    def count(path: str) -> int:
        client.get(path)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        return len(queries)

    paths = (LIST, page(ada, "tokens"), page(ada, "sessions"))
    Client().force_login(ada.user)
    few = [count(path) for path in paths]
    for number in range(29):
        make_user(f"u{number}", tenant=make_tenant())
        Client().force_login(ada.user)
        token_balances.adjust(ada, "add", 1)
    assert [count(path) for path in paths] == few
