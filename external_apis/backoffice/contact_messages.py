"""Contact messages: take what strangers write, find and delete it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q, QuerySet
from pydantic import AfterValidator, BaseModel, ConfigDict

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


# Of categories Zl, Zp and Cc, and what sets the direction of what follows (Bidi_Control, UAX 44).
_NO_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def _filled(text: str) -> str:
    if not text:
        raise ValueError("Please fill this in.")
    return text


def _one_line(text: str) -> str:
    if _NO_LINE.search(text):
        raise ValueError("Please write one line, without control characters.")
    return text


def _email(text: str) -> str:
    try:
        validate_email(_one_line(text))
    except ValidationError:
        raise ValueError("This is not an email address.") from None
    return text


def _with_lf(text: str) -> str:
    """Browsers send a line end as CRLF, and count it as one."""
    return text.replace("\r\n", "\n")


def _at_most(count: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > count:
            raise ValueError(f"This is longer than {count} characters.")
        return text

    return AfterValidator(check)


Filled = Annotated[str, AfterValidator(_filled)]


class ContactInput(BaseModel):
    """What is asked for; spaces around it are dropped. What is wrong is told in words for whoever fills in a form."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)

    name: Annotated[Filled, _at_most(100), AfterValidator(_one_line)]
    email: Annotated[Filled, _at_most(254), AfterValidator(_email)]
    subject: Annotated[str, _at_most(200), AfterValidator(_one_line)] = ""
    message: Annotated[str, AfterValidator(_with_lf), AfterValidator(_filled), _at_most(5000)]


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
    """Delete a message for good; of what stood in it nothing stays. Raises `NotFound` where it is gone."""
    with transaction.atomic():
        if not ContactMessage.objects.filter(pk=row.pk).delete()[0]:
            raise NotFound(f"Contact message {row.pk} not found")
        audit.record("contact_message.deleted", row)
