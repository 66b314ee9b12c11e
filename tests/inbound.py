"""Providers that send webhooks, and what they send: signed by the tests' own few lines, not by the product's."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

from django.utils import timezone

from connections.models import EventStatus, WebhookEvent
from external_apis import valkey
from external_apis.models import ExternalApi
from tests.factories import make_provider

SECRET = "whsec_of_the_tests_0123456789"


def webhook_provider(**webhook: Any) -> ExternalApi:
    """A provider called stripe, unless ``slug`` says otherwise, with a webhook block."""
    fields = {name: webhook.pop(name) for name in ("slug", "tenant", "is_sandbox", "status") if name in webhook}
    slug = fields.setdefault("slug", "stripe")
    block = {"url": f"https://us.example/api/webhooks/{slug}", "secret": SECRET, **webhook}
    return make_provider(**fields, api_config={"webhook": {k: v for k, v in block.items() if v is not None}})


def stripe_body(event_id: str = "evt_1", kind: str = "payment_intent.succeeded", **more: Any) -> bytes:
    return json.dumps({"id": event_id, "object": "event", "type": kind, "data": {"object": {}}, **more}).encode()


def stripe_headers(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    stamp = int(time.time() if at is None else at)
    mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={stamp},v1={mac}"}


def send(client: Any, body: bytes, *, path: str = "stripe", headers: dict[str, str] | None = None, **extra: Any) -> Any:
    """Post a body as Stripe would sign it, or with the headers that are given."""
    signed = stripe_headers(body) if headers is None else headers
    content_type = extra.pop("content_type", "application/json")
    return client.post(f"/api/webhooks/{path}", body, content_type=content_type, headers=signed, **extra)


def forget_sweeps() -> None:
    """Free the slots of sweeps that a test has killed: they would keep the next one's events for minutes."""
    store = valkey.client()
    store.delete("none", *store.scan_iter(f"{valkey.PREFIX}sweep:*process_webhook_events*"))


def make_webhook_event(api: ExternalApi | None = None, **fields: Any) -> WebhookEvent:
    """A stored event that has been processed, unless ``fields`` say otherwise."""
    api = api or webhook_provider(slug="sends-events", scheme="stripe")
    defaults: dict[str, Any] = {
        "event_id": "evt_made",
        "event_type": "invoice.paid",
        "status": EventStatus.PROCESSED,
        "content": {"body": '{"id": "evt_made"}', "content_type": "application/json"},
    }
    defaults["types"] = [fields.get("event_type", defaults["event_type"])]
    defaults["finished_at"] = timezone.now()
    return WebhookEvent.objects.create(external_api=api, tenant_id=api.tenant_id, **{**defaults, **fields})
