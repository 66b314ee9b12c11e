"""Takes in what a provider sends: proven, stored once, answered. Processing is the worker's.

One statement stores it, and what it stores is there before the provider is told that it was accepted.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from django.db import connection

from connections.models import EventStatus, WebhookEvent
from connections.signals import webhook_received
from connections.wakeups import wake
from connections.webhooks.inbound import receivers, refusals
from connections.webhooks.inbound.deliveries import Delivery, Header, read_all, read_first
from connections.webhooks.inbound.patterns import matches_any
from connections.webhooks.inbound.receivers import Receiver
from connections.webhooks.inbound.schemes import Scheme
from connections.webhooks.inbound.verdicts import Verdict, judge
from external_apis import request_context
from external_apis.fields import SecretsField
from external_apis.ids import can_name, new_id

__all__ = ["PROCESS", "REFUSED", "Answer", "answer_challenge", "receive"]

log = structlog.get_logger(__name__)

PROCESS = "connections.process_webhook_events"
"""The task that processes what is due."""

_LONGEST_CHALLENGE = 2_000
_LONGEST = 200


@dataclass(frozen=True)
class Answer:
    """What the provider is answered."""

    status: int = 200
    text: str = ""
    content_type: str = "text/plain; charset=utf-8"


REFUSED = Answer(400, json.dumps({"error": "refused"}), "application/json")
"""The one answer to whatever is not accepted, whether or not there is such a provider."""


def receive(slug: str, api_id: str, delivery: Delivery) -> Answer:
    """Store an event that the provider has proven to have sent; a repetition is accepted and changes nothing.

    ``api_id`` names a provider by its id, and is empty for the one that the slug means for everybody. Raises Django's
    database errors and `VaultError`: then nothing is stored, and the provider sends it again.
    """
    receiver = receivers.find(slug, api_id)
    verdict = judge(receiver, delivery, time.time())
    scheme = receiver.scheme
    if verdict is not Verdict.GENUINE or scheme is None:
        context = request_context.current()
        refusals.note(receiver, delivery, verdict, address=context.address, request_id=context.request_id)
        return REFUSED
    if scheme.challenge == "slack" and (challenge := _slack_challenge(delivery)) is not None:
        return Answer(text=challenge)
    _store(receiver, scheme, delivery)
    return Answer(scheme.accepted)


def answer_challenge(slug: str, api_id: str, query: Mapping[str, str]) -> Answer:
    """Answer Meta's question whether the address is ours: by its challenge, when it knows the verify token."""
    receiver = receivers.find(slug, api_id)
    given = query.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
    is_right = hmac.compare_digest(given, receiver.verify_token.encode()) and bool(receiver.verify_token)
    is_meta = receiver.scheme is not None and receiver.scheme.challenge == "meta" and not receiver.problem
    challenge = query.get("hub.challenge", "")
    is_asked = query.get("hub.mode") == "subscribe" and 0 < len(challenge) <= _LONGEST_CHALLENGE
    return Answer(text=challenge) if is_right and is_meta and is_asked and can_name(challenge) else REFUSED


def _slack_challenge(delivery: Delivery) -> str | None:
    payload = delivery.payload
    if not isinstance(payload, dict) or payload.get("type") != "url_verification":
        return None
    challenge = payload.get("challenge")
    return challenge[:_LONGEST_CHALLENGE] if can_name(challenge) and isinstance(challenge, str) else ""


def _store(receiver: Receiver, scheme: Scheme, delivery: Delivery) -> None:
    types = read_all(scheme.event_type, delivery)
    is_wanted = not receiver.events or matches_any(receiver.events, types)
    row_id, event_type, now = new_id("wev"), _joined(types), datetime.now(UTC)
    columns = {
        "id": row_id,
        "external_api_id": receiver.api_id,
        "tenant_id": receiver.tenant_id,
        "event_id": _identity(receiver, scheme, delivery),
        "event_type": event_type,
        "types": list(types),
        "status": EventStatus.RECEIVED.value if is_wanted else EventStatus.IGNORED.value,
        "content": _sealed(row_id, receiver.tenant_id, _content(scheme, delivery)),
        "received_at": now,
        "finished_at": None if is_wanted else now,
        "request_id": request_context.current().request_id,
    }
    # One statement, which is its own transaction.
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, columns)
        is_new = bool(cursor.rowcount)
    if not is_new:
        told = {name: delivery.header(name)[:50] for name in scheme.retries if delivery.header(name)}
        log.info("webhook.repeated", provider=receiver.slug, event_type=event_type, retry=told)
        return
    if is_wanted:
        wake(PROCESS)
    webhook_received.send_robust(
        WebhookEvent,
        event_id=row_id,
        external_api_id=receiver.api_id,
        tenant_id=receiver.tenant_id,
        event_type=event_type,
    )


def _sealed(row_id: str, tenant_id: str | None, content: dict[str, Any]) -> bytes:
    field = WebhookEvent._meta.get_field("content")
    assert isinstance(field, SecretsField)  # noqa: S101 (tells the type checker)
    # The rest of the row does not matter to the seal, and making a whole one takes as long as proving the signature.
    row = WebhookEvent.__new__(WebhookEvent)
    vars(row).update(id=row_id, tenant_id=tenant_id)
    return bytes(field.seal(row, content))


_INSERT = f"""
INSERT INTO {WebhookEvent._meta.db_table}
    (id, external_api_id, tenant_id, event_id, event_type, types, status, content, received_at, finished_at,
     request_id, due_at, results, fence, attempts)
VALUES
    (%(id)s, %(external_api_id)s, %(tenant_id)s, %(event_id)s, %(event_type)s, %(types)s, %(status)s,
     %(content)s, %(received_at)s, %(finished_at)s, %(request_id)s,
     CASE WHEN %(status)s = 'received' THEN statement_timestamp() END, '{{}}', 0, 0)
ON CONFLICT (external_api_id, event_id) DO NOTHING
"""  # noqa: S608 (our own table's name)


def _identity(receiver: Receiver, scheme: Scheme, delivery: Delivery) -> str:
    """The provider's id of the event; where it has none (or an endless one) a digest, so that repetitions are one.

    What kind of body it is stands in a header that is not signed: the id is looked for whatever that says. Some
    providers send the same body about several types, and name them in such a header. That is part of it where
    ``events`` names that very type: nobody makes up more events of one than are named.
    """
    is_readable = not scheme.event_id or delivery.payload is not None
    given = read_first(scheme.event_id, delivery if is_readable else delivery.as_form())
    if given and len(given) <= _LONGEST:
        return given
    unsigned = read_all([place for place in scheme.event_type if isinstance(place, Header)], delivery)
    named = sorted({*unsigned} & {*receiver.events})
    content = given.encode() or b"\0".join((scheme.signature.content(delivery), *(name.encode() for name in named)))
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _joined(types: tuple[str, ...]) -> str:
    """Several types, as of a batch, are shown in one column as long as they fit."""
    text = ""
    for name in types:
        longer = f"{text},{name}" if text else name[:_LONGEST]
        if len(longer) > _LONGEST:
            break
        text = longer
    return text


def _content(scheme: Scheme, delivery: Delivery) -> dict[str, Any]:
    content: dict[str, Any] = {"content_type": delivery.header("content-type")[:_LONGEST]}
    named = (place.name.lower() for place in scheme.account if isinstance(place, Header))
    if headers := {name: value[:_LONGEST] for name in named if (value := delivery.header(name))}:
        content["headers"] = headers
    try:
        return {"body": delivery.body.decode(), **content}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(delivery.body).decode(), **content}
