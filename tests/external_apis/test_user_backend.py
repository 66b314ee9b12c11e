"""Permissions and accounts as Django knows them, in fewer queries."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission
from django.test import RequestFactory

from external_apis.tenancy import scope_of
from external_apis.user_backend import UserBackend
from tests.factories import PASSWORD, make_tenant, make_user

pytestmark = pytest.mark.django_db


def test_user_and_account_are_one_query_and_permissions_another(django_assert_num_queries: Any) -> None:
    tenant = make_tenant()
    made = make_user(tenant=tenant, permissions=["external_apis.view_externalapi"])
    group = Group.objects.create(name="editors")
    group.permissions.add(Permission.objects.get(codename="change_externalapi"))
    made.groups.add(group)
    with django_assert_num_queries(2):
        user = UserBackend().get_user(made.pk)
        assert scope_of(user).tenant_id == tenant.pk
        assert user.has_perm("external_apis.view_externalapi")
        assert user.has_perm("external_apis.change_externalapi")
        assert not user.has_perm("external_apis.delete_externalapi")
    assert UserBackend().get_all_permissions(user) == ModelBackend().get_all_permissions(made)
    assert UserBackend().get_all_permissions(user, obj=made) == set()


def test_users_who_may_not_log_in() -> None:
    inactive = make_user(is_active=False, permissions=["external_apis.view_externalapi"])
    assert UserBackend().get_user(inactive.pk) is None
    assert UserBackend().get_user(10**9) is None
    assert not inactive.has_perm("external_apis.view_externalapi")
    assert authenticate(RequestFactory().post("/"), username=inactive.username, password=PASSWORD) is None


def test_a_superuser_has_every_permission() -> None:
    user = make_user(is_superuser=True)
    assert user.has_perm("connections.delete_externalapiconnection")
    assert "external_apis.view_externalapi" in user.get_all_permissions()


def test_a_user_without_an_account_is_bound_to_no_tenant(django_assert_num_queries: Any) -> None:
    made = make_user()
    with django_assert_num_queries(1):
        assert scope_of(UserBackend().get_user(made.pk)).tenant_id is None
