"""What this floor gives to the backoffice's statistics: calls as they are counted, connections, and rows that wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

from connections import usage_rollup
from connections.client import measures
from connections.client.measures import Bag
from connections.models import ExternalApiConnection, Grant, WebhookDelivery, WebhookEvent, WorkflowRun
from external_apis.backoffice import overview_counts, overview_sums, resources

__all__ = ["register"]

_DUE = {
    "token_renewals": Grant,
    "webhook_events": WebhookEvent,
    "webhook_deliveries": WebhookDelivery,
    "workflow_runs": WorkflowRun,
}


def register() -> None:
    """Have them told; called when the app is ready."""
    usage_rollup.counted.connect(_add_calls, dispatch_uid="backoffice")
    overview_counts.add_figure(overview_counts.CONNECTIONS, _live_connections)
    for name, model in _DUE.items():
        resources.add_due(name, _counting(model))


def _add_calls(bags: Mapping[tuple[str | None, datetime], Bag], **_: object) -> None:
    """Part of the roll-up's transaction: each call is in the sums as often as in the connections' own, once."""
    if not settings.BACKOFFICE_ENABLED:
        return
    figures = {overview_sums.CALLS: measures.CALLS, overview_sums.ERRORS: measures.ERRORS}
    overview_sums.add_numbers(
        {
            (tenant_id, at, figure): bag[name]
            for (tenant_id, at), bag in bags.items()
            for figure, name in figures.items()
            if bag.get(name)
        }
    )


def _live_connections() -> QuerySet[Any]:
    rows = ExternalApiConnection.objects.filter(deleted_at=None, external_api__is_sandbox=False)
    return rows.annotate(whose=F("tenant_id"))


def _counting(model: Any) -> Any:
    return lambda: model.objects.filter(due_at__lte=timezone.now()).count()
