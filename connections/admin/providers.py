"""The provider's pages with the ways to its connections, of which the ground floor knows nothing."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from external_apis.admin.pages import Button
from external_apis.admin.providers import ProviderAdmin
from external_apis.models import ExternalApi

admin.site.unregister(ExternalApi)
_PAGES = "admin:connections_externalapiconnection"


@admin.register(ExternalApi)
class ConnectedProviderAdmin(ProviderAdmin):
    """Adds 'Connections' and 'Add connection' for those who may."""

    def row_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        buttons = super().row_buttons(request, obj)
        user = request.user
        if user.has_perm("connections.view_externalapiconnection"):
            url = f"{reverse(f'{_PAGES}_changelist')}?{urlencode({'external_api__id__exact': obj.pk})}"
            buttons.append(Button("Connections", url, "list"))
        if user.has_perm("connections.add_externalapiconnection") and not obj.is_deleted:
            url = f"{reverse(f'{_PAGES}_add')}?{urlencode({'external_api': obj.pk})}"
            buttons.append(Button("Add connection", url, "add_link"))
        return buttons
