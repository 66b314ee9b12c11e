"""``BACKOFFICE_ENABLED=false``: no routes, pages, menu or tasks; every table stays, and users can still be deleted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from external_apis.models import Account, Tenant
from tests.factories import make_tenant, make_user
from tests.web import environment

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[3]

# What it writes into the tests' database is rolled back.
_LOOK = """
import json
import re
import django
django.setup()
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.test.utils import setup_test_environment
from connections.api import backoffice_urls
from external_apis.backoffice import page_urls, urls
from external_apis.models import Account
from tests.envelope import EXTERNAL, failure_of
from tests.external_apis.backoffice.test_switched_off import deletions
from tests.rest import with_key

setup_test_environment()
def asked(client, patterns, prefix):
    paths = [prefix + re.sub("<.*?>", "x", str(entry.pattern)) for entry in patterns]
    return {path: client.get(path) for path in paths}
with transaction.atomic():
    client = with_key()
    routes = asked(client, [*urls.urlpatterns, *backoffice_urls.urlpatterns], EXTERNAL + "/")
    pages = asked(client, page_urls.urlpatterns, "/")
    print(json.dumps({
        "routes": {path: failure_of(answer) for path, answer in routes.items()},
        "public_pages": {path: answer.status_code for path, answer in pages.items()},
        "pages": sorted(model._meta.label for model in admin.site._registry if model._meta.app_label == "backoffice"),
        "account_page": type(admin.site.get_model_admin(Account)).__module__,
        "tasks": [entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()],
        "tables": len(list(apps.get_app_config("backoffice").get_models())),
        "deletions": deletions(),
    }))
    transaction.set_rollback(True)
"""


def deletions() -> dict[str, Any]:
    """What the admin answers to whoever deletes a user by its page, by the list and by its account, and a tenant."""
    home, client = make_tenant(), Client()
    client.force_login(make_user(is_superuser=True))
    by_page, by_list, by_account = (make_user(tenant=home, is_staff=False) for _ in range(3))
    selected = {"action": "delete_selected", "_selected_action": [by_list.pk], "post": "yes"}
    account = Account.objects.get(user=by_account).pk
    return {
        "tenant": "Account: " in client.get(f"/admin/external_apis/tenant/{home.pk}/delete/").content.decode(),
        "page": client.post(f"/admin/auth/user/{by_page.pk}/delete/", {"post": "yes"}).status_code,
        "list": client.post("/admin/auth/user/", selected).status_code,
        "account": client.post(f"/admin/external_apis/account/{account}/delete/", {"post": "yes"}).status_code,
        "left": sorted(User.objects.filter(is_superuser=False).values_list("pk", flat=True)) == [by_account.pk],
        "is_there": Tenant.objects.filter(pk=home.pk).exists(),
    }


@pytest.fixture(scope="module")
def off(django_db_setup: None) -> dict[str, Any]:
    """What a process of its own finds."""
    answer = subprocess.run(
        [sys.executable, "-c", _LOOK],
        cwd=ROOT,
        env={**os.environ, **environment(), "DATABASE_POOL_SIZE": "0", "BACKOFFICE_ENABLED": "false"},
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_its_routes_are_unknown_endpoints(off: dict[str, Any]) -> None:
    assert {tuple(answer) for answer in off["routes"].values()} == {(404, "ENDPOINT_NOT_FOUND")}
    asked = {path.removeprefix("/api/external/") for path in off["routes"]}
    analytics = {f"analytics/{name}" for name in ("overview", "tracking", "resources", "usage")}
    assert {"users", "models/x/chat", "withdrawals", "blogs", "contact-messages", *analytics} <= asked
    assert set(off["public_pages"].values()) == {404}
    assert {"/blog/x", "/contact"} <= set(off["public_pages"])


def test_it_has_no_pages_no_menu_and_no_tasks(off: dict[str, Any]) -> None:
    assert off["pages"] == []
    assert off["account_page"] == "external_apis.admin.tenants"
    assert off["tasks"]
    assert not [task for task in off["tasks"] if task.startswith("backoffice.")]
    assert [entry for entry in settings.CELERY_BEAT_SCHEDULE.values() if str(entry["task"]).startswith("backoffice.")]


def test_its_tables_stay(off: dict[str, Any]) -> None:
    assert settings.BACKOFFICE_ENABLED
    assert off["tables"]


def test_users_can_be_deleted_and_accounts_go_with_them_alone(off: dict[str, Any]) -> None:
    """A tenant that has users is not deleted, and the page names them rather than a permission."""
    assert off["deletions"] == {
        "tenant": True, "page": 302, "list": 302, "account": 403, "left": True, "is_there": True,
    }  # fmt: skip
    found = deletions()  # with the switch on, where accounts have a page that deletes as well
    assert (found["tenant"], found["page"], found["list"], found["account"]) == (True, 302, 302, 302)
