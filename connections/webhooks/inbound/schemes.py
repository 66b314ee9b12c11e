"""The table of signature schemes: how each provider signs, and where an event's id, type and account stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from connections.webhooks.inbound.deliveries import Body, Field, Header, ItemIds, Place, Together
from connections.webhooks.inbound.messaging import MessagingTypes
from connections.webhooks.inbound.signatures import (
    EcdsaSignature,
    HmacSignature,
    Signature,
    StandardSignature,
    TwilioSignature,
)
from external_apis.call_config import Webhook

__all__ = ["SCHEMES", "Scheme", "scheme_of"]


@dataclass(frozen=True)
class Scheme:
    """``event_id`` and ``event_type`` are looked for in turn; without an id a digest of what is signed takes its place.

    An id that is not signed itself is none: a delivery that was caught could be sent again under any number of them.
    A type in a header is not signed either, and makes another event only where ``events`` names it.

    ``account`` is where the provider says whose account the event is about (what is signed first: a header is the
    provider's word only as far as nobody has caught a delivery), ``account_names`` what that is called in a
    connection's ``provider_data``. ``retries`` are headers that tell that, and why, a delivery is a repetition.
    ``slugs`` are providers of which a configuration need not name the scheme. ``accepted`` is the answer's status.
    """

    signature: Signature
    event_id: Sequence[Place] = ()
    event_type: Sequence[Place] = ()
    account: Sequence[Place] = ()
    account_names: Sequence[str] = ()
    retries: Sequence[str] = ()
    challenge: Literal["", "meta", "slack"] = ""
    slugs: Sequence[str] = ()
    accepted: int = 200


# What has changed of a page, and which fields of a user.
_META_CHANGES = (Body("entry.*.changes.*.field"), Body("entry.*.changed_fields.*"))

SCHEMES: Mapping[str, Scheme] = {
    # https://docs.stripe.com/webhooks#verify-manually
    "stripe": Scheme(
        HmacSignature("Stripe-Signature", payload="{timestamp}.{body}", item="v1", timestamp_item="t"),
        event_id=[Body("id")],
        event_type=[Body("type")],
        account=[Body("account")],
        account_names=["stripe_user_id", "account"],
        slugs=["stripe"],
    ),
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    "github": Scheme(
        HmacSignature("X-Hub-Signature-256", prefix="sha256="),  # and X-GitHub-Delivery is not signed
        event_type=[Header("X-GitHub-Event")],
        account=[Body("installation.id")],
        account_names=["installation_id"],
        slugs=["github"],
    ),
    # https://developers.facebook.com/docs/graph-api/webhooks/getting-started: several changes may come in one.
    "meta": Scheme(
        HmacSignature("X-Hub-Signature-256", prefix="sha256="),
        event_type=[Together([*_META_CHANGES, MessagingTypes()]), Body("object")],
        account=[Body("entry.*.id")],
        account_names=["page_id", "account_id"],
        challenge="meta",
        slugs=["facebook", "instagram", "meta", "whatsapp"],
    ),
    # https://docs.slack.dev/authentication/verifying-requests-from-slack
    "slack": Scheme(
        HmacSignature(
            "X-Slack-Signature",
            prefix="v0=",
            payload="v0:{timestamp}:{body}",
            timestamp_header="X-Slack-Request-Timestamp",
        ),
        event_id=[Body("event_id"), Body("trigger_id")],
        event_type=[Body("event.type"), Body("type"), Field("command")],
        account=[Body("team_id"), Body("team.id")],
        account_names=["team_id", "team.id"],
        retries=["X-Slack-Retry-Num", "X-Slack-Retry-Reason"],
        challenge="slack",
        slugs=["slack"],
    ),
    # https://shopify.dev/docs/apps/build/webhooks/subscribe/https: the headers with ids are not signed.
    "shopify": Scheme(
        HmacSignature("X-Shopify-Hmac-Sha256", encoding="base64"),
        event_type=[Header("X-Shopify-Topic")],
        account=[Body("myshopify_domain"), Body("shop_domain"), Header("X-Shopify-Shop-Domain")],
        account_names=["shop", "shop_domain"],
        slugs=["shopify"],
    ),
    # https://www.twilio.com/docs/usage/webhooks: I-Twilio-Idempotency-Token is not signed.
    # One message has several events, so its sid is no id of an event.
    "twilio": Scheme(
        TwilioSignature(),
        event_id=[ItemIds("*.id")],
        event_type=[
            Field("EventType"),
            Field("MessageStatus"),
            Field("CallStatus"),
            Field("SmsStatus"),
            Body("*.type"),
        ],
        account=[Field("AccountSid")],
        account_names=["account_sid"],
        slugs=["twilio"],
        accepted=204,  # a body would be read as what to do next
    ),
    # https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event: a batch of events in each body.
    "sendgrid": Scheme(
        EcdsaSignature("X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"),
        event_id=[ItemIds("*.sg_event_id")],
        event_type=[Body("*.event")],
        slugs=["sendgrid"],
    ),
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    "standard": Scheme(StandardSignature(), event_id=[Header("webhook-id")], event_type=[Body("type")]),
}


def scheme_of(block: Webhook, slug: str) -> Scheme | None:
    """Return how a provider of this slug signs; None where neither its configuration nor the slug tells."""
    if block.scheme == "hmac":
        return _own(block)
    if block.scheme is not None:
        return SCHEMES[block.scheme]
    return next((scheme for scheme in SCHEMES.values() if slug in scheme.slugs), None)


def _own(block: Webhook) -> Scheme:
    """A scheme that is described field by field; a header's id counts where it is signed."""
    id_header = (block.event_id_header or "") if "{id}" in (block.signed_payload or "") else ""
    signature = HmacSignature(
        block.signature_header or "",
        prefix=block.signature_prefix or "",
        algorithm=block.signature_algorithm or "sha256",
        encoding=block.signature_encoding or "hex",
        payload=block.signed_payload or "{body}",
        timestamp_header=block.timestamp_header or "",
        id_header=id_header,
    )
    return Scheme(
        signature,
        event_id=_places(id_header, block.event_id_path, ItemIds),
        event_type=_places(block.event_type_header, block.event_type_path, Body),
    )


def _places(header: str | None, path: str | None, kind: Callable[[str], Place]) -> list[Place]:
    found: list[Place] = [Header(header)] if header else []
    return [*found, kind(path)] if path else found
