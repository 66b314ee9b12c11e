"""From a stored row to what a handler is given."""

from __future__ import annotations

import base64
import json
from typing import Any

from django.db.models import Q

from connections.lookup import of_provider
from connections.models import ExternalApiConnection, WebhookEvent
from connections.webhooks.inbound import layouts
from connections.webhooks.inbound.deliveries import Delivery, Header, read_every
from connections.webhooks.inbound.handlers import ReceivedEvent
from connections.webhooks.inbound.schemes import Scheme, scheme_of
from external_apis.call_config import Webhook

__all__ = ["delivery_of", "find_connection", "read_event", "shown", "types_of"]

_MOST_ACCOUNTS = 4
_MOST_DIGITS = 18
"""Longer numbers are no account's, and Python refuses to read endless ones."""


def read_event(row: WebhookEvent) -> ReceivedEvent:
    """Open a row. Raises `VaultError` where its content cannot be opened any more."""
    delivery = delivery_of(row)
    return ReceivedEvent(
        row_id=row.pk,
        id=row.event_id,
        types=types_of(row),
        payload=delivery.payload,
        body=delivery.body,
        provider=row.external_api.slug,
        external_api_id=row.external_api_id,
        tenant_id=row.tenant_id,
        connection=row.connection or find_connection(row, delivery),
        received_at=row.received_at,
        attempt=row.attempts,
    )


def types_of(row: WebhookEvent) -> tuple[str, ...]:
    return tuple(row.types)


def delivery_of(row: WebhookEvent) -> Delivery:
    """Return what was stored of a delivery: its body, what kind that is, and whose. Raises `VaultError`."""
    content = row.content
    body = content["body"].encode() if "body" in content else base64.b64decode(content.get("body_base64", ""))
    return Delivery(body, {**content.get("headers", {}), "content-type": content.get("content_type", "")})


def shown(delivery: Delivery) -> Any:
    """Return what people are shown of a delivery: its payload, or its text where that is none that JSON can show.

    So it is with one that is nested too deeply or holds half characters; None for a body that is no text either.
    """
    payload = delivery.payload
    if payload is not None and layouts.is_shallow(payload) and _is_strict(payload):
        return payload
    try:
        return delivery.body.decode()
    except UnicodeDecodeError:
        return None


def _is_strict(payload: Any) -> bool:
    """Whether a value that Python has read is JSON for everybody: without NaN and lone surrogates."""
    try:
        json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


def find_connection(row: WebhookEvent, delivery: Delivery) -> ExternalApiConnection | None:
    """Return the live connection that an event is about, where that is beyond doubt.

    It is the one whose ``provider_data`` names the account that the event names, or all of them if they are several;
    where it names none, the only one that the provider has, unless a header should have named it: those are not signed,
    and whoever has caught a delivery may have left it out. A tenant's own provider is only ever about the tenant's
    connections. No more than the provider's connections are read, of which no index knows the accounts.
    """
    rows = of_provider(row.external_api).select_related("external_api", "tenant")
    if row.tenant_id is not None:
        rows = rows.filter(tenant_id=row.tenant_id)
    scheme = _scheme(row)
    accounts = read_every(scheme.account, delivery) if scheme else ()
    if accounts is None or len(accounts) > _MOST_ACCOUNTS:
        return None
    if not accounts and scheme and any(isinstance(place, Header) for place in scheme.account):
        return None
    for account in accounts:
        rows = rows.filter(_names(scheme, account))
    found = list(rows[:2])
    return found[0] if len(found) == 1 else None


def _names(scheme: Scheme | None, account: str) -> Q:
    is_number = account.isascii() and account.isdigit() and len(account) <= _MOST_DIGITS
    named = Q()
    for name in scheme.account_names if scheme else ():
        path = f"provider_data__{name.replace('.', '__')}"
        named |= Q(**{path: account})
        if is_number:
            named |= Q(**{path: int(account)})
    return named


def _scheme(row: WebhookEvent) -> Scheme | None:
    stored = row.external_api.api_config.get("webhook")
    if not stored:
        return None
    # Its secrets are not needed here, and stay sealed.
    return scheme_of(Webhook.model_validate(stored, context={"environment": ""}), row.external_api.slug)
