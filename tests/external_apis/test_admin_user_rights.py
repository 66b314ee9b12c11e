"""Who says in the admin what a user may do: superusers, and operators neither of themselves nor of superusers."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from tests.factories import make_user

pytestmark = pytest.mark.django_db
USERS = "/admin/auth/user/"
PASSWORDS = {"password1": "of-somebody-else-1", "password2": "of-somebody-else-1", "usable_password": "true"}
FACTS = {"is_active": "on", "is_staff": "on", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}


@pytest.fixture
def operator() -> User:
    return make_user("operator", permissions=["auth.view_user", "auth.change_user"])


@pytest.fixture
def client(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def rights() -> dict[str, str]:
    every = {"groups": Group.objects.create(name="all").pk, "user_permissions": Permission.objects.all()[0].pk}
    return {"is_superuser": "on", **{name: str(pk) for name, pk in every.items()}}


def test_an_operator_changes_no_superuser(client: Client) -> None:
    root = make_user("root", is_superuser=True)
    password = root.password
    for path, body in (("change", {**FACTS, "username": "mine"}), ("password", PASSWORDS)):
        assert client.post(f"{USERS}{root.pk}/{path}/", body).status_code == 403, path
    root.refresh_from_db()
    assert (root.username, root.password) == ("root", password)


@pytest.mark.parametrize("is_own", [True, False])
def test_an_operator_gives_nobody_rights(client: Client, operator: User, is_own: bool) -> None:
    user = operator if is_own else make_user("ada")
    before = set(user.user_permissions.all())
    assert 'name="is_superuser"' not in client.get(f"{USERS}{user.pk}/change/").content.decode()
    answer = client.post(f"{USERS}{user.pk}/change/", {**FACTS, **rights(), "username": "new"})
    assert answer.status_code == 302
    user.refresh_from_db()
    assert (user.username, user.is_superuser, user.groups.count()) == ("new", False, 0)
    assert set(user.user_permissions.all()) == before


def test_an_operator_gives_no_group_permissions(client: Client, operator: User) -> None:
    group = Group.objects.create(name="ours")
    operator.groups.add(group)
    operator.user_permissions.add(*Permission.objects.filter(codename__in=["view_group", "change_group"]))
    every = [str(pk) for pk in Permission.objects.values_list("pk", flat=True)]
    answer = client.post(f"/admin/auth/group/{group.pk}/change/", {"name": "new", "permissions": every})
    assert answer.status_code == 302
    group.refresh_from_db()
    assert (group.name, group.permissions.count()) == ("new", 0)


def test_an_operator_changes_another_users_password(client: Client) -> None:
    ada = make_user("ada")
    assert client.post(f"{USERS}{ada.pk}/password/", PASSWORDS).status_code == 302
    ada.refresh_from_db()
    assert ada.check_password(PASSWORDS["password1"])


def test_a_superuser_gives_rights() -> None:
    client, ada = Client(), make_user("ada")
    client.force_login(make_user("root", is_superuser=True))
    answer = client.post(f"{USERS}{ada.pk}/change/", {**FACTS, **rights(), "username": "ada"})
    assert answer.status_code == 302
    ada.refresh_from_db()
    assert (ada.is_superuser, ada.groups.count(), ada.user_permissions.count()) == (True, 1, 1)
