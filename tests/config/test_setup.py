"""``manage.py setup`` and ``check_encryption_keys`` on a real database."""

from __future__ import annotations

import io
import stat
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from pytest_django.fixtures import Settings

from connections.models import ExternalApiConnection
from connections.sandbox.definitions import WEBHOOK_SLUG, providers, signin_providers, vendor_providers
from connections.seeding import seed_sandbox
from external_apis.authentication import authenticate_token
from external_apis.models import ApiKey, AuditEvent, CatalogueEntry, EncryptionKey, ExternalApi, Tenant
from external_apis.providers import create_external_api, delete_external_api, update_external_api

OTHER_KEY = "other:" + "A" * 43 + "="


def run(name: str) -> str:
    out = io.StringIO()
    call_command(name, stdout=out)
    return out.getvalue()


@pytest.fixture
def embedded(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a first start, with a folder and a password of its own."""
    settings.VAR_DIR = tmp_path
    settings.EMBEDDED = settings.SANDBOX = True
    settings.ADMIN_PASSWORD = "a password of the first start"
    settings.SANDBOX_URL = "http://127.0.0.1:9001"
    return settings


@pytest.mark.django_db
def test_setup_makes_everything_a_newcomer_needs(embedded: Settings) -> None:
    """Key, superuser, log-in file, catalogue and sandbox; the output names the file and no secret."""
    output = run("setup")
    assert get_user_model().objects.get(username="admin").check_password(embedded.ADMIN_PASSWORD)
    path = embedded.VAR_DIR / "first-login.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sourced = subprocess.run(
        ["sh", "-c", f'. {path}; printf %s "$ADMIN_PASSWORD"'], capture_output=True, text=True, check=True
    )
    assert sourced.stdout == embedded.ADMIN_PASSWORD
    assert f"ADMIN_API_KEY={embedded.ADMIN_API_KEY}\n" in path.read_text()
    assert str(path) in output
    assert embedded.ADMIN_PASSWORD not in output
    assert embedded.ADMIN_API_KEY not in output
    written = dict(line.split("=", 1) for line in path.read_text().splitlines())
    for kind in ("SECRET_LIVE", "SECRET_TEST", "PUBLISHABLE_LIVE", "PUBLISHABLE_TEST"):
        token = written[f"{kind}_KEY"]
        type_, mode = kind.lower().split("_")
        holder = authenticate_token(token, None, type_)
        assert (holder.type, holder.mode) == (type_, mode)
        assert holder.has_scope("connections:write") is (type_ == "secret")
        assert token not in output
    assert EncryptionKey.objects.count() == 1
    assert CatalogueEntry.objects.exists()
    api = ExternalApi.objects.get(slug="sandbox-bearer")
    assert api.created_by == "command:setup"
    default = api.connections.get()
    assert default.slug == "default"
    assert default.credential.secrets["access_token"]
    events = AuditEvent.objects.filter(actor="command:setup")
    assert not AuditEvent.objects.exclude(actor="command:setup").exists()
    actions = set(events.values_list("action", flat=True))
    assert {"user.created", "catalogue.seeded", "provider.created", "connection.created"} <= actions
    assert events.filter(action="provider.created", object_id=api.pk).count() == 1


@pytest.mark.django_db
def test_setup_twice_changes_nothing(embedded: Settings) -> None:
    """A restart leaves the changed password, the removed log-in file and all rows alone."""
    run("setup")
    user = get_user_model().objects.get()
    user.set_password("changed since")
    user.save()
    (embedded.VAR_DIR / "first-login.env").unlink()
    rows = (ExternalApiConnection, ApiKey, Tenant)
    before = list(ExternalApi.objects.values("id", "updated_at")), [model.objects.count() for model in rows]
    assert run("setup") == ""
    after = list(ExternalApi.objects.values("id", "updated_at")), [model.objects.count() for model in rows]
    assert after == before
    assert get_user_model().objects.get().check_password("changed since")
    assert not (embedded.VAR_DIR / "first-login.env").exists()


@pytest.mark.django_db
def test_the_log_in_file_is_written_once(embedded: Settings) -> None:
    path = embedded.VAR_DIR / "first-login.env"
    path.write_text("of a start that broke off")
    run("setup")
    assert path.read_text() == "of a start that broke off"


@pytest.mark.django_db
def test_setup_says_how_to_get_in_without_a_password(embedded: Settings) -> None:
    embedded.ADMIN_PASSWORD = ""
    assert "createsuperuser" in run("setup")
    assert not get_user_model().objects.exists()


@pytest.mark.django_db
def test_setup_does_not_promote_an_ordinary_admin_user(embedded: Settings) -> None:
    get_user_model().objects.create_user("admin", password="somebody else's")
    assert "createsuperuser" in run("setup")
    assert not get_user_model().objects.get(username="admin").is_superuser


@pytest.mark.django_db
def test_the_sandbox_follows_its_port() -> None:
    """Every URL of ours moves, those that an operator set stay, deleted rows stay deleted."""
    seed_sandbox("http://127.0.0.1:9001")
    mine = ExternalApi.objects.get(slug="sandbox-basic")
    update_external_api(mine, {"api_config": {"base_url": "http://127.0.0.1:7777/my/own"}})
    delete_external_api(ExternalApi.objects.get(slug="sandbox-bearer"))
    total = ExternalApi.objects.count()
    result = seed_sandbox("http://127.0.0.1:9101")
    assert (result.created, result.moved) == (0, total - 2)
    assert ExternalApi.objects.get(slug="sandbox-basic").api_config["base_url"] == "http://127.0.0.1:7777/my/own"
    assert ":9001" in ExternalApi.objects.get(slug="sandbox-bearer").api_config["base_url"]
    moved = ExternalApi.objects.get(slug="sandbox-oauth2")
    assert ":9001" not in str(moved.api_config)
    assert moved.api_config["oauth2"]["token_url"].startswith("http://127.0.0.1:9101/")
    assert moved.secrets["oauth2.client_secret"]
    signin = ExternalApi.objects.get(slug="sandbox-signin-oauth2").api_config["oauth2"]
    assert signin["issuer"] == "http://127.0.0.1:9101"
    assert ":9001" not in str(signin)


@pytest.mark.django_db
def test_what_needs_consent_waits_for_connect_and_the_machine_needs_none() -> None:
    seed_sandbox("http://127.0.0.1:9001")
    for slug in ("sandbox-signin-oauth2", "sandbox-signin-oauth1"):
        assert not ExternalApi.objects.get(slug=slug).connections.exists()
    machine = ExternalApiConnection.objects.get(external_api__slug="sandbox-machine")
    assert "access_token" not in machine.credential.secrets


@pytest.mark.django_db
def test_an_operators_own_row_under_a_sandbox_slug_is_left_alone() -> None:
    bodies = providers("http://127.0.0.1:9001")
    own = {name: value for name, value in bodies[0].items() if name != "connection"}
    api = create_external_api({**own, "name": "An operator's own"})
    others = len(bodies) - 1 + len([WEBHOOK_SLUG])
    others += sum(len(more("http://127.0.0.1:9101")) for more in (signin_providers, vendor_providers))
    assert seed_sandbox("http://127.0.0.1:9101").created == others
    api.refresh_from_db()
    assert ":9001" in api.api_config["base_url"]
    assert not api.connections.exists()


@pytest.mark.django_db
def test_the_key_check_accepts_its_own_keys_and_names_a_missing_one(settings: Settings) -> None:
    call_command("check_encryption_keys")
    run("setup")
    key_id = EncryptionKey.objects.get().id
    call_command("check_encryption_keys")
    own = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = OTHER_KEY
    with pytest.raises(CommandError, match=key_id) as caught:
        call_command("check_encryption_keys")
    assert caught.value.returncode == 1
    settings.ENCRYPTION_KEYS = f"{key_id}:{OTHER_KEY.split(':')[1]}"
    with pytest.raises(CommandError, match="not the one of that id"):
        call_command("check_encryption_keys")
    settings.ENCRYPTION_KEYS = f"{OTHER_KEY},{own}"
    call_command("check_encryption_keys")


@pytest.mark.django_db
def test_the_key_check_writes_nothing_and_needs_no_tables() -> None:
    call_command("check_encryption_keys")
    assert not EncryptionKey.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {EncryptionKey._meta.db_table}")
    call_command("check_encryption_keys")
