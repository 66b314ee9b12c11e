"""The sidebar: what is used daily first, and only what the user may open (``UNFOLD["SIDEBAR"]`` names it)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

_GROUPS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("", (("ExternalApi", "api"), ("ExternalApiConnection", "link"), ("CatalogueEntry", "menu_book"))),
    (
        "Webhooks",
        (("WebhookEndpoint", "webhook"), ("WebhookEvent", "move_to_inbox"), ("WebhookRefusal", "block")),
    ),
    ("Whose they are", (("Tenant", "domain"), ("Partner", "handshake"), ("Account", "badge"))),
    ("Workflows", (("WorkflowRun", "account_tree"),)),
    ("Access", (("ApiKey", "vpn_key"),)),
    (
        "Backoffice",
        (("Plan", "sell"), ("AiModel", "smart_toy"), ("Affiliate", "group_add"), ("Withdrawal", "payments")),
    ),
    ("Content", (("Blog", "article"), ("FeatureRequest", "lightbulb"), ("ContactMessage", "mail"))),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return unfold's groups of links; models that no group names come last, under 'Staff'."""
    models = {model["object_name"]: model for app in admin.site.get_app_list(request) for model in app["models"]}
    groups = [
        {
            "title": title,
            "separator": bool(title),
            "items": [_link(models.pop(name), icon) for name, icon in names if name in models],
        }
        for title, names in _GROUPS
    ]
    rest = {"title": "Staff", "separator": True, "items": [_link(model, "person") for model in models.values()]}
    return [group for group in (*groups, rest) if group["items"]]


def _link(model: dict[str, Any], icon: str) -> dict[str, Any]:
    return {"title": model["name"], "icon": icon, "link": model["admin_url"]}
