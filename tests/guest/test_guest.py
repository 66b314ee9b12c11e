"""Another project installs the wheel, migrates, checks, calls the sandbox, and tests itself with the doubles."""

from __future__ import annotations

import json

import pytest

from tests.guest.conftest import Guest
from tests.sandbox import Sandbox

WORK = """
import json, sys, os
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
import django
django.setup()
from django.contrib.auth import get_user_model
from django.contrib.staticfiles import finders
from django.test import Client
import connections, external_apis
from connections.services import create_connection, create_external_api, get_api_client
from connections.sandbox.definitions import providers
from external_apis.backoffice import plans, user_deletion, users
from external_apis.catalogue.presets import presets
from external_apis.models import Tenant
from external_apis.tenancy import EVERYTHING, Scope

found = {"where": [connections.__file__, external_apis.__file__], "config": "config" in sys.modules}
body = next(body for body in providers(sys.argv[1]) if body["slug"] == "sandbox-hmac")
connection = body.pop("connection")
create_connection(create_external_api(body), connection)
found["scheme"] = get_api_client("sandbox-hmac/default").get("/me").json()["scheme"]
found["presets"] = len(presets())
found["static"] = bool(finders.find("external_apis/auth_type.js"))

person = get_user_model()(badge="b-1")
person.set_password("x")
person.save()
client = Client()
client.force_login(person)
pages = ["/backstage/", "/backstage/external_apis/externalapi/", "/backstage/external_apis/externalapi/add/",
         "/backstage/connections/externalapiconnection/", "/backstage/connections/externalapiconnection/add/"]

other = get_user_model().objects.create(badge="b-2")
account, heir = other.external_apis_account, person.external_apis_account
seen = users.visible_users(EVERYTHING)
found["users"] = [users.filtered(seen, status=status, search="b-2").count() for status in ("active", "inactive")]
found["users"].append(users.visible_users(Scope(Tenant.objects.create(slug="t", name="T").pk)).count())
pages += [f"/backstage/external_apis/account/{rest}" for rest in ("", f"{account.pk}/change/",
          f"{account.pk}/tokens/", f"{account.pk}/sessions/", f"{account.pk}/delete/")]
found["pages"] = {page: client.get(page).status_code for page in pages}
answer = client.get("/apis/admin/external-apis")
plans.change_plan(account, "free")
user_deletion.delete_user(account, heir)
found["left"] = list(seen.values_list("user__badge", flat=True))
found["rest"] = [answer.status_code, [row["slug"] for row in answer.json()]]
found["anonymous"] = Client().get("/apis/admin/external-apis").status_code
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def migrated(guest: Guest) -> Guest:
    guest.do("manage.py", "makemigrations", "people", "-v", "0")
    guest.do("manage.py", "migrate", "-v", "0")
    return guest


def test_a_project_that_lacks_what_has_no_default_is_told_by_name(guest: Guest) -> None:
    done = guest.run("manage.py", "check", GUEST_REDIS_URL="")
    assert done.returncode == 1
    assert "The setting ENCRYPTION_KEYS is missing." in done.stderr
    assert "The setting REDIS_URL is missing." in done.stderr
    assert "HINT: Set it to" in done.stderr


def test_migrations_fit_its_user_model_and_need_no_others(migrated: Guest) -> None:
    migrated.do("manage.py", "check")
    migrated.do("manage.py", "makemigrations", "--check", "--dry-run", "external_apis", "connections", "backoffice")


def test_it_calls_the_sandbox_and_shows_its_pages(migrated: Guest, sandbox: Sandbox) -> None:
    (migrated.folder / "work.py").write_text(WORK)
    found = json.loads(migrated.do("work.py", sandbox.url).splitlines()[-1])
    assert all(str(migrated.folder.parent) in path for path in found["where"]), "not the wheel's"
    assert found["config"] is False
    assert found["scheme"] == "hmac"
    assert found["presets"] > 100
    assert found["static"] is True
    assert set(found["pages"].values()) == {200}, found["pages"]
    assert found["rest"] == [200, ["sandbox-hmac"]], found["rest"]
    assert found["anonymous"] == 401
    assert found["users"] == [1, 0, 0]
    assert found["left"] == ["b-1"]


def test_its_own_tests_use_the_doubles_without_a_database(guest: Guest) -> None:
    out = guest.do("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py")
    assert "2 passed" in out
