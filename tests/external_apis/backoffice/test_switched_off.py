"""``BACKOFFICE_ENABLED=false``: no routes, no pages and no menu, and every table stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(__file__).resolve().parents[3]

_LOOK = """
import json
import django
django.setup()
from django.apps import apps
from django.contrib import admin
from django.urls import Resolver404, resolve
def found(path):
    try:
        return resolve(path).func.view_class.__name__
    except (AttributeError, Resolver404):
        return "none"
paths = ["users", "users/user_1", "users/user_1/sessions", "models", "affiliates", "withdrawals", "analytics/overview",
         "blogs", "feature-requests", "contact-messages"]
print(json.dumps({
    "routes": {path: found(f"/api/external/{path}") for path in paths},
    "pages": sorted(model._meta.label for model in admin.site._registry if model._meta.app_label == "backoffice"),
    "account_page": type(admin.site.get_model_admin(apps.get_model("external_apis", "Account"))).__module__,
    "tables": len(list(apps.get_app_config("backoffice").get_models())),
}))
"""


def looked(enabled: str) -> dict[str, object]:
    """What a process of its own finds, which needs no database for that."""
    answer = subprocess.run(
        [sys.executable, "-c", _LOOK],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "BACKOFFICE_ENABLED": enabled},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def off() -> dict[str, object]:
    return looked("false")


def test_its_routes_are_unknown_endpoints(off: dict[str, object]) -> None:
    routes = off["routes"]
    assert isinstance(routes, dict)
    assert set(routes.values()) == {"UnknownEndpoint"}


def test_it_has_no_pages_and_no_menu(off: dict[str, object]) -> None:
    assert off["pages"] == []
    assert off["account_page"] == "external_apis.admin.tenants"


def test_its_tables_stay(off: dict[str, object]) -> None:
    assert settings.BACKOFFICE_ENABLED
    assert off["tables"]
