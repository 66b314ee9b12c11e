"""Routes under ``/api/external`` on this floor."""

from __future__ import annotations

from connections.api import external_calls, external_connections, external_credentials, external_workflows, external_webhook_endpoints

urlpatterns = [
    *external_connections.routes,
    *external_calls.routes,
    *external_credentials.routes,
    *external_webhook_endpoints.routes,
]
