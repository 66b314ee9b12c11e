"""The page of Django's users, with deletion as the API has it; a project's own page for them stays."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpRequest

from external_apis.admin.users import UserAdmin as GroundUserAdmin
from external_apis.backoffice import owners
from external_apis.backoffice.admin.user_deletion import DeletesUsers, may_delete
from external_apis.user_accounts import account_of


class UserAdmin(DeletesUsers, GroundUserAdmin):
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and may_delete(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Refuse to take from the last owner what makes them one."""
        if change:
            (account,) = owners.hold(account_of(obj))
            tenant_id = account.tenant_id
            if owners.owned(account.user, tenant_id) != owners.owned(obj, tenant_id):
                owners.require_another(account)
        super().save_model(request, obj, form, change)


_user = get_user_model()
if (
    settings.BACKOFFICE_ENABLED
    and admin.site.is_registered(_user)
    and type(admin.site.get_model_admin(_user)) is GroundUserAdmin
):
    admin.site.unregister(_user)
    admin.site.register(_user, UserAdmin)
