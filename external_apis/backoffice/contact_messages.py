"""Contact messages: take what strangers write, find and delete it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q, QuerySet
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from external_apis import audit, throttling
from external_apis.backoffice.models import ContactMessage
from external_apis.errors import NotFound
from external_apis.ids import can_name
from external_apis.models import Tenant
from external_apis.provider_input import read_body
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "ContactInput",
    "delete_message",
    "find_message",
    "find_receiver",
    "matching_messages",
    "receive",
    "visible_messages",
]

_FROM_ONE_ADDRESS, _FROM_ALL = 10, 100
"""Attempts and messages a minute. The second keeps the table from being filled from many addresses."""


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("is to be one line of text")
    return text


def _email(text: str) -> str:
    try:
        validate_email(text)
    except ValidationError:
        raise ValueError("is not an email address") from None
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class ContactInput(BaseModel):
    """What is asked for; spaces around it are dropped."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)

    name: Annotated[Line, Field(min_length=1, max_length=100)]
    email: Annotated[str, Field(max_length=254), AfterValidator(_email)]
    subject: Annotated[Line, Field(max_length=200)] = ""
    message: Annotated[str, Field(min_length=1, max_length=5000)]


def find_receiver(tenant_slug: str) -> Tenant:
    """Return the tenant that a form belongs to. Raises `NotFound`, also for one that is switched off."""
    tenant = Tenant.objects.filter(slug=tenant_slug, is_active=True).first()
    if tenant is None:
        raise NotFound("There is no such form.")
    return tenant


def receive(data: Mapping[str, Any], tenant: Tenant | None, address: str | None) -> ContactMessage:
    """Store a message to a tenant, or to whoever runs the installation.

    ``address`` is charged and not stored. Raises `RateLimited` and `InvalidInput`.
    """
    throttling.charge_page("contact", address, _FROM_ONE_ADDRESS).require()
    body = read_body(ContactInput, data)
    throttling.charge_page("contacts", None, _FROM_ALL).require()
    row = ContactMessage(tenant=tenant, **body.model_dump())
    event = audit.build("contact_message.received", "contactmessage", row.pk, tenant_id=row.tenant_id)
    event.address = None
    with transaction.atomic():
        row.save(force_insert=True)
        audit.store([event])
    return row


def visible_messages(scope: Scope) -> QuerySet[ContactMessage]:
    """The messages that somebody of this scope sees: all, or those to the tenant; the sandbox has none."""
    return ContactMessage.objects.none() if scope.is_sandbox else scope.own(ContactMessage.objects.all())


def matching_messages(scope: Scope, *, search: str = "") -> QuerySet[ContactMessage]:
    """Those of them with a part of what was written, the latest first."""
    rows = visible_messages(scope)
    if not search:
        return rows
    fields = ("name", "email", "subject", "message")
    return rows.filter(Q(*((f"{field}__icontains", search) for field in fields), _connector=Q.OR))


def find_message(message_id: str, scope: Scope = EVERYTHING) -> ContactMessage:
    """Return a message of the scope. Raises `NotFound`."""
    row = visible_messages(scope).filter(pk=message_id).first() if can_name(message_id) else None
    if row is None:
        raise NotFound(f"Contact message {ascii(message_id)[1:-1]} not found")
    return row


def delete_message(row: ContactMessage) -> None:
    """Delete a message for good; of what stood in it nothing stays."""
    with transaction.atomic():
        audit.record("contact_message.deleted", row)
        row.delete()
