"""Deleting users: what depends on them is reported or given to somebody else, and the last owner stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client

from connections.models import ConnectLink, ExternalApiConnection
from external_apis import keys, request_context
from external_apis.backoffice import plans, token_balances, user_deletion
from external_apis.backoffice.models import Plan, PlanPeriod, TokenChange, UserSession
from external_apis.errors import Conflict, NotFound
from external_apis.models import Account, ApiKey, AuditEvent, Tenant
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_connection, make_key, make_provider, make_tenant, make_user
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
USERS = f"{EXTERNAL}/users"


@pytest.fixture
def client() -> RestClient:
    return client_of(make_key(scopes=["users:write"]).token)


@pytest.fixture
def home() -> Tenant:
    return make_tenant()


def account(name: str, **fields: Any) -> Account:
    made: Account = make_user(name, **{"is_staff": False, **fields}).external_apis_account
    return made


def delete(client: RestClient, whom: Account, heir: Account | str | None = None) -> Any:
    query = "" if heir is None else f"?reassignTo={heir if isinstance(heir, str) else heir.pk}"
    return client.send("delete", f"{USERS}/{whom.pk}{query}")


def test_a_user_goes_with_all_that_is_theirs_alone(client: RestClient) -> None:
    ada = account("ada")
    browser = Client()
    browser.force_login(ada.user)
    Plan.objects.update_or_create(slug="free", defaults={"name": "Free", "price_minor": 5})
    plans.change_plan(ada, "free")
    token_balances.adjust(ada, "add", 1)
    answer = delete(client, ada)
    assert data_of(answer) == {"id": ada.pk, "deleted": True}
    for model in (User, Account, TokenChange, UserSession, Session):
        assert not model._default_manager.exists(), model
    period = PlanPeriod.objects.get()
    assert period.account_id == ada.pk, "what was earned stays"
    assert period.ended_at is not None
    event = AuditEvent.objects.get(action="user.deleted")
    assert (event.object_id, event.changes) == (ada.pk, {"name": ["ada", None], "reassigned_to": [None, None]})
    assert failure_of(delete(client, ada)) == (404, "NOT_FOUND")


def test_what_depends_on_a_user_is_reported(client: RestClient) -> None:
    ada = account("ada")
    make_connection(user_id=ada.pk)
    make_connection(owner_id=ada.pk)
    make_key(owner_id=ada.pk)
    answer = delete(client, ada)
    assert failure_of(answer) == (409, "CONFLICT")
    error = checked(answer)["error"]
    assert error["details"] == {"dependents": {"API keys": 1, "connections": 2}}
    assert "2 connections" in error["message"]
    assert User.objects.filter(pk=ada.user_id).exists()
    assert ExternalApiConnection.objects.filter(owner=ada).exists(), "nothing is orphaned"


def test_what_depends_on_a_user_is_given_to_another_one(client: RestClient) -> None:
    ada, bob = account("ada"), account("bob")
    used, owned = make_connection(user_id=ada.pk), make_connection(owner_id=ada.pk)
    api = make_provider()
    sent = ConnectLink.objects.create(external_api=api, owner=ada, expires_at=used.created_at)
    data_of(delete(client, ada, bob))
    assert ExternalApiConnection.objects.get(pk=used.pk).user == bob
    assert ExternalApiConnection.objects.get(pk=owned.pk).owner == bob
    assert ConnectLink.objects.get(pk=sent.pk).owner == bob
    actions = AuditEvent.objects.filter(action__endswith=".reassigned").values_list("action", "object_id", "changes")
    assert {
        ("externalapiconnection.reassigned", used.pk): {"user_id": [ada.pk, bob.pk]},
        ("externalapiconnection.reassigned", owned.pk): {"owner_id": [ada.pk, bob.pk]},
        ("connectlink.reassigned", sent.pk): {"owner_id": [ada.pk, bob.pk]},
    } == {(action, object_id): changes for action, object_id, changes in actions}
    event = AuditEvent.objects.get(action="user.deleted")
    assert event.changes["reassigned_to"] == [None, bob.pk]


def test_nobody_inherits_a_key(client: RestClient) -> None:
    """Whoever goes still knows the tokens: of somebody inactive they would begin to work again."""
    ada, bob = account("ada", is_active=False), account("bob")
    working, ending, gone = (make_key(owner_id=ada.pk) for _ in range(3))
    keys.revoke(ending.key, 3600)
    keys.revoke(gone.key)
    data_of(delete(client, ada, bob))
    for made in (working, ending, gone):
        assert keys.verify(made.token).problem == "The API key has been revoked."
        assert ApiKey.objects.get(pk=made.key.pk).owner is None
        with pytest.raises(Conflict):
            keys.roll(made.key)
    told = AuditEvent.objects.filter(changes__owner_id=[ada.pk, None]).values_list("object_id", "action")
    assert dict(told) == {
        working.key.pk: "api_key.revoked", ending.key.pk: "api_key.revoked", gone.key.pk: "api_key.updated"
    }  # fmt: skip


def test_rows_of_other_tenants_stay_where_they_are(home: Tenant) -> None:
    ada, bob = account("ada", tenant=home), account("bob", tenant=home)
    foreign, own = make_connection(tenant=make_tenant()), make_connection(tenant=home, owner_id=ada.pk)
    ExternalApiConnection.objects.filter(pk=foreign.pk).update(owner=ada)
    bound = client_of(make_key(tenant=home, scopes=["users:write"]).token)
    for whose, told in ((bound, {"connections": 1}), (client_of(make_key().token), {"connections": 2})):
        for heir in (None, bob):
            answer = delete(whose, ada, heir)
            assert failure_of(answer) == (409, "CONFLICT")
            error = checked(answer)["error"]
            assert "depend rows of others" in error["message"]
            assert error["details"] == {"dependents": told}
    assert set(ExternalApiConnection.objects.filter(owner=ada)) == {foreign, own}
    data_of(delete(bound, bob))


def test_a_connection_that_was_deleted_softly_is_no_orphan_either(client: RestClient) -> None:
    ada = account("ada")
    row = make_connection(owner_id=ada.pk)
    ExternalApiConnection.objects.filter(pk=row.pk).update(deleted_at=row.created_at)
    assert failure_of(delete(client, ada)) == (409, "CONFLICT")


def test_where_the_heir_has_the_same_nothing_is_moved(client: RestClient) -> None:
    ada, bob = account("ada"), account("bob")
    api = make_provider()
    for whom in (ada, bob):
        make_connection(api, user_id=whom.pk, connection_name="Mine")
    other = make_connection(user_id=ada.pk)
    assert failure_of(delete(client, ada, bob)) == (409, "CONFLICT")
    assert ExternalApiConnection.objects.get(pk=other.pk).user == ada
    assert not AuditEvent.objects.filter(action__endswith=".reassigned").exists()


def test_who_cannot_inherit(client: RestClient, home: Tenant) -> None:
    ada = account("ada", tenant=home)
    account("colleague", tenant=home)
    make_connection(owner_id=ada.pk, tenant=home)
    for heir in (account("stranger", tenant=make_tenant()), account("left", tenant=home, is_active=False), ada):
        answer = delete(client, ada, heir)
        assert failure_of(answer) == (400, "VALIDATION_ERROR")
        assert named_by(answer) == ["reassignTo"]
    assert failure_of(delete(client, ada, "user_nobody")) == (404, "NOT_FOUND")
    bound = client_of(make_key(tenant=home, scopes=["users:write"]).token)
    assert failure_of(delete(bound, ada, account("foreign", tenant=make_tenant()))) == (404, "NOT_FOUND")
    assert failure_of(client.send("delete", f"{USERS}/{ada.pk}?heir=x")) == (400, "VALIDATION_ERROR")


def test_superusers_are_not_for_every_key_to_change(client: RestClient) -> None:
    root, browser = account("root", is_superuser=True), Client()
    browser.force_login(root.user)
    session = UserSession.objects.get()
    for method, path, body in (
        ("delete", "", None),
        ("patch", "/plan", {"plan": "free"}),
        ("patch", "/tokens", {"tokens": 1, "operation": "add"}),
        ("delete", f"/sessions/{session.pk}", None),
    ):
        answer = client.send(method, f"{USERS}/{root.pk}{path}", body)
        assert failure_of(answer) == (403, "FORBIDDEN"), (method, path)
    assert UserSession.objects.filter(pk=session.pk).exists()


def test_the_last_superuser_stays() -> None:
    client = client_of(make_key().token)
    root = account("root", is_staff=True, is_superuser=True)
    account("asleep", is_staff=True, is_superuser=True, is_active=False)
    assert failure_of(delete(client, root)) == (409, "CONFLICT")
    account("second", is_staff=True, is_superuser=True)
    data_of(delete(client, root))


def test_the_last_staff_of_a_tenant_stays(client: RestClient, home: Tenant) -> None:
    boss = account("boss", tenant=home, is_staff=True)
    account("customer", tenant=home)
    account("asleep", tenant=home, is_staff=True, is_active=False)
    account("elsewhere", tenant=make_tenant(), is_staff=True)
    assert failure_of(delete(client, boss)) == (409, "CONFLICT")
    second = account("second", tenant=home, is_staff=True)
    data_of(delete(client, boss))
    assert failure_of(delete(client, second)) == (409, "CONFLICT")
    data_of(delete(client, Account.objects.get(user__username="customer")))


def test_nobody_deletes_themself(home: Tenant) -> None:
    ada = account("ada")
    with request_context.acting("user:ada", user_id=ada.user_id), pytest.raises(Conflict, match="their own"):
        user_deletion.delete_user(ada)


@pytest.mark.django_db(transaction=True)
def test_two_who_are_each_others_heirs_do_not_wait_for_each_other() -> None:
    for number in range(4):
        pair = [account(f"{name}{number}") for name in ("ada", "bob")]
        for whom in pair:
            make_connection(owner_id=whom.pk)
        together = Barrier(2)

        def go(whom: Account, heir: Account, together: Barrier = together) -> bool:
            together.wait()
            try:
                user_deletion.delete_user(whom, heir)
            except NotFound:
                return False
            else:
                return True
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(go, pair, reversed(pair))) == [False, True]
        left = Account.objects.get(pk__in=[whom.pk for whom in pair])
        assert ExternalApiConnection.objects.filter(owner=left).count() == 2


def is_deleted(whom: Account, together: Barrier | None = None) -> bool:
    """Delete a user on a connection of this thread's own."""
    try:
        if together is not None:
            together.wait()
        user_deletion.delete_user(whom)
    except Conflict:
        return False
    else:
        return True
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_of_two_last_owners_who_are_deleted_at_once_one_stays() -> None:
    owners = [account(name, is_staff=True, is_superuser=True) for name in ("ada", "bob", "cy")]

    with ThreadPoolExecutor(3) as threads:
        gone = list(threads.map(is_deleted, owners))
    assert gone.count(True) == 2
    assert User.objects.filter(is_superuser=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_the_last_two_of_a_tenants_staff_who_are_deleted_at_once_one_stays() -> None:
    for number in range(4):
        tenant = make_tenant()
        staff = [account(f"{name}{number}", is_staff=True, tenant=tenant) for name in ("ada", "bob")]
        together = Barrier(2)
        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(partial(is_deleted, together=together), staff)) == [False, True]
        assert Account.objects.filter(tenant=tenant).count() == 1
