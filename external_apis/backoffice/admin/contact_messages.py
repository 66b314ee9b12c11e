"""Admin page of contact messages, which are read and deleted."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest

from external_apis.admin.pages import FormAdmin
from external_apis.backoffice import contact_messages
from external_apis.backoffice.admin.refusals import ShowsRefusals
from external_apis.backoffice.admin.registration import register
from external_apis.backoffice.models import ContactMessage


@register(ContactMessage)
class ContactMessageAdmin(ShowsRefusals, FormAdmin):
    list_display: ClassVar = ["name", "email", "subject", "tenant", "created_at"]
    list_select_related: ClassVar = ["tenant"]
    search_fields: ClassVar = ["name", "email", "subject", "message", "=id"]
    ordering: ClassVar = ["-id"]
    fields: ClassVar = ["name", "email", "subject", "message", "tenant", "created_at", "id"]
    readonly_fields: ClassVar = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_row(self, row: ContactMessage) -> None:
        contact_messages.delete_message(row)
