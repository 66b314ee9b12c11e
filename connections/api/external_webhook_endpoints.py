"""``/api/external/webhook-endpoints``: where others are told of events, and what was sent there."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.urls import path
from pydantic import ConfigDict, Field, StrictBool
from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models import (
    DeliveryAttempt,
    DeliveryStatus,
    DisabledReason,
    WebhookDelivery,
    WebhookEndpoint,
)
from connections.webhooks.outbound import endpoints, replays
from connections.webhooks.outbound.message import body_of
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import (
    CamelAnswer,
    CamelModel,
    Deleted,
    PageQuery,
    deletes,
    lists,
    reads,
    writes,
)
from external_apis.errors import VaultError
from external_apis.json_output import Timestamp
from external_apis.time_input import Moment


class WebhookEndpointItem(CamelAnswer):
    id: str
    url: str
    events: list[str]
    """Event types, groups of them such as `connection.*`, or `*`."""
    description: str
    tenant_id: str | None
    """Null for one that is told of all tenants' events."""
    is_enabled: bool
    disabled_at: Timestamp | None
    disabled_reason: DisabledReason | None
    """Why it is switched off: by hand, because nothing succeeded there for five days, or because it answered 410."""
    failing_since: Timestamp | None
    """The first failure after the last success."""
    is_slow: bool
    """An answer took more than two seconds, and fewer than ten in a row have been quicker since: it is sent one request
    at a time, as while it fails."""
    created_at: Timestamp
    updated_at: Timestamp


class WebhookEndpointWithSecret(WebhookEndpointItem):
    secret: str
    """With it a receiver verifies the signatures: nobody can look it up afterwards."""


class NewWebhookEndpoint(endpoints.EndpointInput):
    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class WebhookEndpointPatch(endpoints.EndpointChanges):
    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class SecretRoll(CamelModel):
    overlap_seconds: Annotated[int, Field(strict=True, ge=0, le=endpoints.MAX_OVERLAP_SECONDS)] = 0
    """How long messages are signed with the old secret as well."""


class WebhookDeliveryItem(CamelAnswer):
    id: str
    message_id: str
    """What the receiver gets as `webhook-id`, in each attempt."""
    type: str
    status: DeliveryStatus
    attempts: int
    """Since the last replay, or the beginning."""
    next_attempt_at: Timestamp | None
    delivered_at: Timestamp | None
    last_status: int | None
    """Of the last answer, null where none came."""
    last_error: str
    created_at: Timestamp


class WebhookAttempt(CamelAnswer):
    sent_at: Timestamp
    url: str
    duration_ms: int
    status: int | None
    error: str
    answer: str
    """The first 2 KB of its body."""


class WebhookDeliveryFacts(WebhookDeliveryItem):
    body: str
    """What is sent."""
    log: list[WebhookAttempt]
    """The latest 50 attempts, the last one first."""


class Replay(CamelModel):
    since: Moment
    """Deliveries of events from this moment on."""
    only_failed: StrictBool = False
    """Only those that have not succeeded."""


class Replayed(CamelAnswer):
    deliveries: int
    """How many are made again."""


class WebhookEndpointQuery(PageQuery):
    is_enabled: bool | None = None
    tenant_id: Annotated[str, Field(max_length=48, pattern=r"^[A-Za-z0-9_-]+$")] = ""
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the URL or description."""


class WebhookDeliveryQuery(PageQuery):
    status: DeliveryStatus = DeliveryStatus.PENDING
    type: Annotated[str, Field(max_length=60)] = ""


LOGGED = 50


class WebhookEndpointView(ResourceView):
    """What the views of endpoints share. They have no sandbox: a test key sees and makes none."""

    def found(self, endpoint_id: str) -> WebhookEndpoint:
        return endpoints.find(endpoint_id, self.scope)


class WebhookEndpointList(WebhookEndpointView):
    @lists(
        "list_webhook_endpoints", "webhooks:read", WebhookEndpointItem, WebhookEndpointQuery, "List webhook endpoints"
    )
    def get(self, request: Request) -> Response:
        return self.page(endpoints.matching(self.scope, **self.query.filters()), _shown)

    @writes(
        "create_webhook_endpoint",
        "webhooks:write",
        NewWebhookEndpoint,
        WebhookEndpointWithSecret,
        "Create a webhook endpoint; its secret is shown this once",
        status=201,
    )
    def post(self, request: Request) -> Response:
        self.require_live()
        return self.answer(_with_secret(endpoints.create(self.given, self.scope)))


class WebhookEndpointPage(WebhookEndpointView):
    @reads("get_webhook_endpoint", "webhooks:read", WebhookEndpointItem, "Show a webhook endpoint")
    def get(self, request: Request, endpoint_id: str) -> Response:
        return self.answer(_shown(self.found(endpoint_id)))

    @writes(
        "update_webhook_endpoint",
        "webhooks:write",
        WebhookEndpointPatch,
        WebhookEndpointItem,
        "Change a webhook endpoint, or switch it off or on",
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        return self.answer(_shown(endpoints.update(self.found(endpoint_id), self.given)))

    @deletes("delete_webhook_endpoint", "webhooks:write", "Delete a webhook endpoint; its deliveries go soon after it")
    def delete(self, request: Request, endpoint_id: str) -> Response:
        endpoints.delete(self.found(endpoint_id))
        return self.answer(Deleted(id=endpoint_id).model_dump(by_alias=True))


class WebhookSecretRoll(WebhookEndpointView):
    @writes(
        "roll_webhook_secret",
        "webhooks:write",
        SecretRoll,
        WebhookEndpointWithSecret,
        "Give it a new secret, which is shown this once; the old one may sign as well for a while",
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        return self.answer(_with_secret(endpoints.roll_secret(self.found(endpoint_id), **self.given)))


class WebhookTest(WebhookEndpointView):
    @writes(
        "send_test_webhook",
        "webhooks:write",
        None,
        WebhookDeliveryItem,
        "Send it an event of the type test",
        status=201,
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        return self.answer(_delivery(replays.send_test(self.found(endpoint_id))))


class WebhookDeliveryList(WebhookEndpointView):
    @lists(
        "list_webhook_deliveries",
        "webhooks:read",
        WebhookDeliveryItem,
        WebhookDeliveryQuery,
        "List what was sent or waits to be, the latest first",
    )
    def get(self, request: Request, endpoint_id: str) -> Response:
        rows = replays.deliveries_of(self.found(endpoint_id))
        return self.page(rows.filter(**self.query.filters()), _delivery)


class WebhookDeliveryPage(WebhookEndpointView):
    @reads(
        "get_webhook_delivery",
        "webhooks:read",
        WebhookDeliveryFacts,
        "Show what was sent and what each attempt came to",
    )
    def get(self, request: Request, endpoint_id: str, delivery_id: str) -> Response:
        row = replays.find_delivery(self.found(endpoint_id), delivery_id)
        log = [_attempt(attempt) for attempt in replays.attempts_of(row)[:LOGGED]]
        return self.answer({**_delivery(row), "body": body_of(row.event), "log": log})


class WebhookDeliveryReplay(WebhookEndpointView):
    @writes(
        "replay_webhook_delivery",
        "webhooks:write",
        None,
        WebhookDeliveryItem,
        "Make a delivery again, from the first attempt on",
    )
    def post(self, request: Request, endpoint_id: str, delivery_id: str) -> Response:
        row = self.found(endpoint_id)
        return self.answer(_delivery(replays.replay(row, replays.find_delivery(row, delivery_id))))


class WebhookReplay(WebhookEndpointView):
    @writes("replay_webhook_deliveries", "webhooks:write", Replay, Replayed, "Make all deliveries since a time again")
    def post(self, request: Request, endpoint_id: str) -> Response:
        given = dict(self.given)
        since = datetime.fromisoformat(given.pop("since"))
        count = replays.replay_since(self.found(endpoint_id), since, **given)
        return self.answer(Replayed(deliveries=count).model_dump(by_alias=True))


def _shown(row: WebhookEndpoint) -> dict[str, Any]:
    facts = {name: getattr(row, name) for name in WebhookEndpointItem.model_fields}
    facts["disabled_reason"] = DisabledReason(row.disabled_reason) if row.disabled_reason else None
    return WebhookEndpointItem.model_construct(**facts).model_dump(mode="json", by_alias=True)


def _with_secret(made: endpoints.WithSecret) -> dict[str, Any]:
    return {**_shown(made.endpoint), "secret": made.secret}


def _delivery(row: WebhookDelivery) -> dict[str, Any]:
    names = ("id", "type", "attempts", "delivered_at", "last_status", "last_error", "created_at")
    facts = {name: getattr(row, name) for name in names}
    next_attempt_at = row.due_at if row.status == DeliveryStatus.PENDING else None
    shown = WebhookDeliveryItem.model_construct(
        message_id=row.event_id, status=DeliveryStatus(row.status), next_attempt_at=next_attempt_at, **facts
    )
    return shown.model_dump(mode="json", by_alias=True)


def _attempt(row: DeliveryAttempt) -> dict[str, Any]:
    names = ("sent_at", "url", "duration_ms", "status", "error")
    try:
        answer = row.answer.get("body", "")
    except VaultError:
        answer = ""
    shown = WebhookAttempt(answer=answer, **{name: getattr(row, name) for name in names})
    return shown.model_dump(mode="json", by_alias=True)


_ENDPOINT = "webhook-endpoints/<str:endpoint_id>"

routes = [
    path("webhook-endpoints", WebhookEndpointList.as_view()),
    path(_ENDPOINT, WebhookEndpointPage.as_view()),
    path(f"{_ENDPOINT}/roll-secret", WebhookSecretRoll.as_view()),
    path(f"{_ENDPOINT}/test", WebhookTest.as_view()),
    path(f"{_ENDPOINT}/replay", WebhookReplay.as_view()),
    path(f"{_ENDPOINT}/deliveries", WebhookDeliveryList.as_view()),
    path(f"{_ENDPOINT}/deliveries/<str:delivery_id>", WebhookDeliveryPage.as_view()),
    path(f"{_ENDPOINT}/deliveries/<str:delivery_id>/replay", WebhookDeliveryReplay.as_view()),
]
