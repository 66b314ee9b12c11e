"""From a stored row to what a handler is given."""

from __future__ import annotations

import base64

from django.db.models import Q

from connections.lookup import of_provider
from connections.models import ExternalApiConnection, WebhookEvent
from connections.webhooks.inbound.deliveries import Delivery, read_first
from connections.webhooks.inbound.handlers import ReceivedEvent
from connections.webhooks.inbound.schemes import Scheme, scheme_of
from external_apis.call_config import Webhook

__all__ = ["delivery_of", "find_connection", "read_event", "types_of"]


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
    return tuple(row.event_type.split(",")) if row.event_type else ()


def delivery_of(row: WebhookEvent) -> Delivery:
    """Return what was stored of a delivery: its body and what kind that is. Raises `VaultError`."""
    content = row.content
    body = content["body"].encode() if "body" in content else base64.b64decode(content.get("body_base64", ""))
    return Delivery(body, {"content-type": content.get("content_type", "")})


def find_connection(row: WebhookEvent, delivery: Delivery) -> ExternalApiConnection | None:
    """Return the live connection that an event is about, where that is beyond doubt.

    It is the one whose ``provider_data`` names the account that the body names, or else the only one that the
    provider has. A tenant's own provider is only ever about the tenant's connections.
    """
    rows = of_provider(row.external_api).select_related("external_api", "tenant")
    if row.tenant_id is not None:
        rows = rows.filter(tenant_id=row.tenant_id)
    scheme = _scheme(row)
    account = read_first(scheme.account, delivery) if scheme else ""
    if scheme and account:
        named = Q()
        for name in scheme.account_names:
            path = f"provider_data__{name.replace('.', '__')}"
            named |= Q(**{path: account})
            if account.isascii() and account.isdigit():
                named |= Q(**{path: int(account)})
        found = list(rows.filter(named)[:2])
        if found:
            return found[0] if len(found) == 1 else None
    found = list(rows[:2])
    return found[0] if len(found) == 1 else None


def _scheme(row: WebhookEvent) -> Scheme | None:
    stored = row.external_api.api_config.get("webhook")
    if not stored:
        return None
    # Its secrets are not needed here, and stay sealed.
    return scheme_of(Webhook.model_validate(stored, context={"environment": ""}), row.external_api.slug)
