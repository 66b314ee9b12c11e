"""``/api/external/contact-messages``."""

from __future__ import annotations

from typing import Annotated, Any

from django.urls import path
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, Deleted, PageQuery, deletes, lists
from external_apis.backoffice import contact_messages
from external_apis.backoffice.models import ContactMessage
from external_apis.json_output import Timestamp


class ContactMessageItem(CamelAnswer):
    id: str
    name: str
    email: str
    subject: str
    message: str
    tenant_id: str | None
    """The tenant whose form it came by."""
    created_at: Timestamp


class ContactMessageQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name, email address, subject or message."""


class ContactMessageList(ResourceView):
    @lists("list_contact_messages", "content:read", ContactMessageItem, ContactMessageQuery, "List contact messages")
    def get(self, request: Request) -> Response:
        return self.page(contact_messages.matching_messages(self.scope, **self.query.filters()), _shown)


class ContactMessagePage(ResourceView):
    @deletes("delete_contact_message", "content:write", "Delete a contact message")
    def delete(self, request: Request, contact_message_id: str) -> Response:
        self.require_live()
        contact_messages.delete_message(contact_messages.find_message(contact_message_id, self.scope))
        return self.answer(Deleted(id=contact_message_id).model_dump(by_alias=True))


def _shown(row: ContactMessage) -> dict[str, Any]:
    item = ContactMessageItem.model_construct(**{name: getattr(row, name) for name in ContactMessageItem.model_fields})
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("contact-messages", ContactMessageList.as_view()),
    path("contact-messages/<str:contact_message_id>", ContactMessagePage.as_view()),
]
