"""What another project's settings are refused for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import global_settings

from external_apis.project_settings import _DEFAULTS, APPS, check_settings


class ToTheReplica:
    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        return "replica" if model._meta.app_label == "connections" else None


class ToVault:
    def db_for_write(self, model: Any, **_hints: Any) -> str | None:
        return "vault" if model._meta.app_label == "external_apis" else None


@pytest.mark.parametrize(
    ("router", "said"),
    [(ToTheReplica, "connections to the database 'replica'"), (ToVault, "external_apis to the database 'vault'")],
)
def test_a_router_that_sends_the_apps_elsewhere_is_refused(settings: Any, router: type, said: str) -> None:
    assert check_settings() == []
    settings.DATABASE_ROUTERS = [router()]
    (found,) = check_settings()
    assert said in found.msg
    assert found.id == "external_apis.E004"


def test_a_short_secret_of_tokens_is_refused(settings: Any) -> None:
    settings.JWT_SECRET = "swordfish"
    (found,) = check_settings()
    assert (found.id, "JWT_SECRET" in found.msg, "swordfish" in found.msg) == ("external_apis.E005", True, False)
    settings.JWT_SECRET = ""
    assert check_settings() == []


def test_whatever_the_apps_read_has_a_default() -> None:
    """Django's, one of ours, or one that another project has to give."""
    root = Path(__file__).resolve().parents[2]
    read = {
        name
        for app in APPS
        for path in (root / app).rglob("*.py")
        if "sign_on" not in path.parts  # an app of its own, for this project
        for name in re.findall(r"(?<![\w.])settings\.([A-Z][A-Z_0-9]+)", path.read_text())
    }
    assert {name for name in read if not hasattr(global_settings, name)} <= _DEFAULTS.keys()
