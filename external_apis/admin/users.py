"""Users and groups in the product's look; nobody who is bound to a tenant gets near them, nor operators to superusers.

A project with users of its own, or with pages of its own for them, keeps those.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from external_apis.admin.auditing import AuditedAdmin, recording_password
from external_apis.tenancy import EVERYTHING, scope_of


class _OperatorsOnly(AuditedAdmin, ModelAdmin):
    """Users of other tenants are nothing for somebody who is bound to one."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_operator(request) and bool(super().has_module_permission(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_operator(request) and bool(super().has_view_permission(request, obj))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_operator(request) and bool(super().has_add_permission(request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_operator(request) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_operator(request) and bool(super().has_delete_permission(request, obj))


def _is_operator(request: HttpRequest) -> bool:
    return scope_of(request.user) == EVERYTHING


def _is_superuser(user: Any) -> bool:
    return bool(getattr(user, "is_superuser", False))  # which a project's own users need not have


class UserAdmin(_OperatorsOnly, DjangoUserAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = recording_password(AdminPasswordChangeForm)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever changes a superuser's password is that superuser."""
        return super().has_change_permission(request, obj) and (_is_superuser(request.user) or not _is_superuser(obj))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """What somebody may do is for superusers to say: others would say it of themselves."""
        fields = [*super().get_readonly_fields(request, obj)]
        return fields if _is_superuser(request.user) else [*fields, "is_superuser", "groups", "user_permissions"]


class GroupAdmin(_OperatorsOnly, DjangoGroupAdmin):
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Of a group that they are in themselves, others would say it of themselves too."""
        fields = [*super().get_readonly_fields(request, obj)]
        return fields if _is_superuser(request.user) else [*fields, "permissions"]


def _take_over(model: type[Model], stock: type[Any], own: type[Any]) -> None:
    if admin.site.is_registered(model) and type(admin.site.get_model_admin(model)) is stock:
        admin.site.unregister(model)
        admin.site.register(model, own)


# Who is linked to whom at the OpenID provider is written by signing on alone.
if apps.is_installed("social_django"):
    for _linked in apps.get_app_config("social_django").get_models():
        if admin.site.is_registered(_linked):
            admin.site.unregister(_linked)
_take_over(get_user_model(), DjangoUserAdmin, UserAdmin)
_take_over(Group, DjangoGroupAdmin, GroupAdmin)
