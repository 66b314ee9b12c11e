"""The upper floor's admin pages; Django imports this package, which registers them."""

from connections.admin import connections, providers, webhook_endpoints, webhook_events, workflow_runs

__all__ = ["connections", "providers", "webhook_endpoints", "webhook_events", "workflow_runs"]
