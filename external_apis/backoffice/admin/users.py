"""The page of Django's users, with deletion as the API has it; a project's own page for them stays."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model

from external_apis.admin.users import UserAdmin as GroundUserAdmin
from external_apis.backoffice.admin.user_deletion import DeletesUsers


class UserAdmin(DeletesUsers, GroundUserAdmin):
    pass


_user = get_user_model()
if (
    settings.BACKOFFICE_ENABLED
    and admin.site.is_registered(_user)
    and type(admin.site.get_model_admin(_user)) is GroundUserAdmin
):
    admin.site.unregister(_user)
    admin.site.register(_user, UserAdmin)
