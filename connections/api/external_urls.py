"""Routes under ``/api/external`` on this floor."""

from __future__ import annotations

from connections.api import (
    external_calls,
    external_connections,
    external_credentials,
    external_webhook_endpoints,
    external_webhook_events,
    external_workflows,
)

urlpatterns = [
    *external_connections.routes,
    *external_calls.routes,
    *external_credentials.routes,
    *external_webhook_endpoints.routes,
    *external_workflows.routes,
    *external_webhook_events.routes,
]
