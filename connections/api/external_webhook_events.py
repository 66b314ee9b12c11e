"""``/api/external/webhook-events`` and ``/webhook-refusals``: what providers sent us, what became of it, what was not
accepted and why."""

from __future__ import annotations

from typing import Annotated, Any

from django.urls import path
from pydantic import Field, model_validator
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models import EventStatus, WebhookEvent, WebhookRefusal
from connections.webhooks.inbound import lookup
from connections.webhooks.inbound.events import delivery_of, shown
from connections.webhooks.inbound.replay import replay
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, PageQuery, lists, reads, writes
from external_apis.ids import first_id
from external_apis.json_output import Timestamp
from external_apis.provider_input import RowId
from external_apis.time_input import Moment


class HandlerOutcome(CamelAnswer):
    """What became of one handler."""

    handler: str
    status: str
    """`done` or `failed`."""
    attempts: int
    at: str
    """When it was tried last."""
    error: str = ""
    """Code and message of our own errors; of others what they are and where they arose."""


class WebhookEventItem(CamelAnswer):
    id: str
    external_api_id: str
    provider: str
    """The provider's slug."""
    sales_channel_id: str | None
    """The provider's tenant."""
    connection_id: str | None
    """Whose account at the provider it is about, where that is known."""
    event_id: str
    """The provider's own id of the event, or a digest of what is signed where it has none."""
    event_type: str
    """Several types of one body are separated by commas."""
    status: EventStatus
    attempts: int
    received_at: Timestamp
    finished_at: Timestamp | None
    next_attempt_at: Timestamp | None
    """While it is being tried, when somebody else would take it over."""
    request_id: str


class WebhookEventFacts(WebhookEventItem):
    results: list[HandlerOutcome]
    content_type: str
    payload: Any
    """The parsed body; its text where it is neither strict JSON nor a form, or nested too deeply; null where it is no
    text."""


class WebhookRefusalItem(CamelAnswer):
    """Refused deliveries of one provider for one reason. Nothing of what was sent is kept."""

    external_api_id: str
    provider: str
    sales_channel_id: str | None
    reason: str
    """`secret`, `clock`, `body`, `url`, `headers` or `configuration`."""
    explanation: str
    address: str | None
    """Where the latest one came from."""
    count: int
    first_at: Timestamp
    last_at: Timestamp


class WebhookEventQuery(PageQuery):
    status: EventStatus = EventStatus.RECEIVED
    external_api_id: RowId = ""
    """Of one provider."""
    event_type: Annotated[str, Field(max_length=200)] = ""
    event: Annotated[str, Field(max_length=200)] = ""
    """The provider's own id of it, together with `externalApiId`."""
    sales_channel_id: RowId = ""
    """Of one tenant."""
    since: Annotated[Moment | None, Field(alias="from")] = None
    """Received at this moment or later: `2026-01-15T10:30:00Z`."""
    until: Annotated[Moment | None, Field(alias="to")] = None
    """Received before this moment."""

    @model_validator(mode="after")
    def _is_of_one_provider(self) -> WebhookEventQuery:
        if self.event and not self.external_api_id:
            raise ValueError("event is an id of one provider's: name it as externalApiId")
        return self

    def conditions(self) -> dict[str, Any]:
        """The filters as those of the rows, all but the type's in an index: ids are in the order of their receipt."""
        found = {_NAMES.get(name, name): value for name, value in self.filters().items()}
        for name in ("id__gte", "id__lt"):
            if name in found:
                found[name] = first_id("wev", found[name])
        return found | ({"due_at__isnull": False} if found.get("status") == EventStatus.RECEIVED else {})


class WebhookRefusalQuery(PageQuery):
    external_api_id: RowId = ""
    """Of one provider."""


_NAMES = {"event": "event_id", "sales_channel_id": "tenant_id", "since": "id__gte", "until": "id__lt"}


class WebhookEventList(ResourceView):
    @lists("list_webhook_events", "webhooks:read", WebhookEventItem, WebhookEventQuery, "List webhooks that came in")
    def get(self, request: Request) -> Response:
        assert isinstance(self.query, WebhookEventQuery)  # noqa: S101 (tells the type checker)
        rows = lookup.visible(self.scope).filter(**self.query.conditions())
        return self.page(rows.defer("content"), _item)


class WebhookEventPage(ResourceView):
    @reads("get_webhook_event", "webhooks:read", WebhookEventFacts, "Show a webhook that came in, with its payload")
    def get(self, request: Request, webhook_event_id: str) -> Response:
        return self.answer(_facts(lookup.find(webhook_event_id, self.scope)))


class WebhookEventReplay(ResourceView):
    @writes("replay_webhook_event", "webhooks:write", None, WebhookEventItem, "Process a webhook once more", status=202)
    def post(self, request: Request, webhook_event_id: str) -> Response:
        return self.answer(_item(replay(lookup.find(webhook_event_id, self.scope))))


class WebhookRefusalList(ResourceView):
    @lists(
        "list_webhook_refusals",
        "webhooks:read",
        WebhookRefusalItem,
        WebhookRefusalQuery,
        "List why webhooks were refused, the latest first",
    )
    def get(self, request: Request) -> Response:
        rows = self.scope.own(WebhookRefusal.objects.select_related("external_api"))
        return self.page(rows.filter(**self.query.filters()), _refusal)


def _columns(row: WebhookEvent) -> dict[str, Any]:
    return {
        "id": row.pk,
        "external_api_id": row.external_api_id,
        "provider": row.external_api.slug,
        "sales_channel_id": row.tenant_id,
        "connection_id": row.connection_id,
        "event_id": row.event_id,
        "event_type": row.event_type,
        "status": EventStatus(row.status),
        "attempts": row.attempts,
        "received_at": row.received_at,
        "finished_at": row.finished_at,
        "next_attempt_at": row.due_at,
        "request_id": row.request_id,
    }


def _item(row: WebhookEvent) -> dict[str, Any]:
    return WebhookEventItem(**_columns(row)).model_dump(mode="json", by_alias=True)


def _facts(row: WebhookEvent) -> dict[str, Any]:
    delivery = delivery_of(row)
    facts = WebhookEventFacts(
        **_columns(row),
        results=[HandlerOutcome(handler=name, **result) for name, result in row.results.items()],
        content_type=delivery.header("content-type"),
        payload=shown(delivery),
    )
    return facts.model_dump(mode="json", by_alias=True)


def _refusal(row: WebhookRefusal) -> dict[str, Any]:
    shown = WebhookRefusalItem(
        external_api_id=row.external_api_id,
        provider=row.external_api.slug,
        sales_channel_id=row.tenant_id,
        reason=row.reason,
        explanation=row.explanation,
        address=row.address,
        count=row.count,
        first_at=row.first_at,
        last_at=row.last_at,
    )
    return shown.model_dump(mode="json", by_alias=True)


routes = [
    path("webhook-events", WebhookEventList.as_view()),
    path("webhook-events/<str:webhook_event_id>", WebhookEventPage.as_view()),
    path("webhook-events/<str:webhook_event_id>/replay", WebhookEventReplay.as_view()),
    path("webhook-refusals", WebhookRefusalList.as_view()),
]
