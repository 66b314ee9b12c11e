"""``get_env_secret`` and ``import_env --report``: who answers for a variable, and whether it can go."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import close_old_connections, connection, transaction
from django.test.utils import CaptureQueriesContext

from connections.models import ConnectionStatus, EnvironmentVariable, ExternalApiConnection, ImportRun
from connections.services import delete_connection, get_env_secret, update_connection
from external_apis.errors import ConnectionInactive, ConnectionRevoked, NotFound
from external_apis.models import AuditEvent, Tenant
from tests.factories import make_tenant

STRIPE = "sk_live_51HswordfishAbCd"
pytestmark = pytest.mark.django_db
SID = f"AC{'0' * 32}"


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that has been imported; the process has the same variables, with other values to tell them apart."""
    file = tmp_path / ".env"
    file.write_text(
        f"STRIPE_SECRET_KEY={STRIPE}\nFACEBOOK_APP_ID=app\nFACEBOOK_APP_SECRET=of the app\n"
        f"TWILIO_ACCOUNT_SID={SID}\nTWILIO_AUTH_TOKEN=token\nTWILIO_PHONE_NUMBER=+1500\n"
    )
    call_command("import_env", "--file", str(file), "--apply", stdout=io.StringIO())
    for name in ("STRIPE_SECRET_KEY", "FACEBOOK_APP_SECRET", "TWILIO_AUTH_TOKEN"):
        monkeypatch.setenv(name, f"the environment's {name}")
    return file


def report(file: Path, *arguments: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("import_env", "--file", str(file), "--report", "--json", *arguments, stdout=out)
    return {one["name"]: one for one in json.loads(out.getvalue())["variables"]}


def test_the_database_goes_first_and_leaves_an_event(env: Path) -> None:
    assert get_env_secret("STRIPE_SECRET_KEY") == STRIPE
    assert get_env_secret("FACEBOOK_APP_SECRET") == "of the app"
    assert get_env_secret("FACEBOOK_APP_ID") == "app"
    assert get_env_secret("TWILIO_ACCOUNT_SID") == SID
    assert get_env_secret("TWILIO_PHONE_NUMBER") == "+1500"
    read = [event.changes["read"] for event in AuditEvent.objects.filter(action="credentials.read").order_by("id")]
    assert read == [
        ["access_token"],
        ["oauth2.client_secret"],
        ["oauth2.client_id"],
        ["username"],
        ["provider_data.phone_number"],
    ]
    assert not EnvironmentVariable.objects.filter(answered_from_environment__gt=0).exists()


def test_an_answer_costs_a_query_and_an_event(env: Path) -> None:
    get_env_secret("STRIPE_SECRET_KEY")
    with CaptureQueriesContext(connection) as queries:
        get_env_secret("STRIPE_SECRET_KEY")
    assert len(queries) == 4  # the test's own transaction makes a savepoint of the event's


def test_the_environment_goes_second_and_is_counted(env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "of nobody")
    for _ in range(3):
        assert get_env_secret("ACME_API_KEY") == "of nobody"
    row = EnvironmentVariable.objects.get(name="ACME_API_KEY")
    assert row.answered_from_environment == 3
    assert row.last_answered_from_environment_at is not None
    assert not AuditEvent.objects.filter(action="credentials.read").exists()


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "of nobody")

    def ask(_: int) -> str:
        try:
            return get_env_secret("ACME_API_KEY")
        finally:
            connection.close()
            close_old_connections()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(12))) == {"of nobody"}
    assert EnvironmentVariable.objects.get().answered_from_environment == 12


@pytest.mark.parametrize("name", ["NOWHERE_TO_BE_FOUND", "", "a\0b", "\ud800", "=", "x" * 10_000])
def test_what_neither_has_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        get_env_secret(name)


def test_a_secret_is_never_read_inside_of_a_transaction(env: Path) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        get_env_secret("STRIPE_SECRET_KEY")


def test_what_may_not_be_used_is_no_reason_to_ask_the_environment(env: Path) -> None:
    row = ExternalApiConnection.objects.get(external_api__slug="stripe")
    update_connection(row, {"status": ConnectionStatus.REVOKED})
    with pytest.raises(ConnectionRevoked):
        get_env_secret("STRIPE_SECRET_KEY")


def test_what_was_deleted_here_the_environment_answers_for(env: Path) -> None:
    delete_connection(ExternalApiConnection.objects.get(external_api__slug="stripe"))
    assert get_env_secret("STRIPE_SECRET_KEY") == "the environment's STRIPE_SECRET_KEY"
    found = report(env)["STRIPE_SECRET_KEY"]
    assert (found["is_safe_to_delete"], found["reason"]) == (False, "was deleted from the database")


def test_a_tenant_s_own_goes_before_everybody_s(env: Path, tmp_path: Path) -> None:
    acme, other = make_tenant("acme"), make_tenant()
    file = tmp_path / "acme.env"
    file.write_text("STRIPE_SECRET_KEY=of acme")
    call_command("import_env", "--file", str(file), "--apply", "--tenant", "acme", stdout=io.StringIO())
    assert get_env_secret("STRIPE_SECRET_KEY", tenant=acme.pk) == "of acme"
    assert get_env_secret("STRIPE_SECRET_KEY", tenant=other.pk) == STRIPE
    assert get_env_secret("STRIPE_SECRET_KEY") == STRIPE
    Tenant.objects.filter(pk=acme.pk).update(is_active=False)
    with pytest.raises(ConnectionInactive):
        get_env_secret("STRIPE_SECRET_KEY", tenant=acme.pk)


def test_everybody_s_answers_a_tenant_whose_own_was_deleted(env: Path, tmp_path: Path) -> None:
    acme = make_tenant("acme")
    file = tmp_path / "acme.env"
    file.write_text("STRIPE_SECRET_KEY=of acme")
    call_command("import_env", "--file", str(file), "--apply", "--tenant", "acme", stdout=io.StringIO())
    delete_connection(ExternalApiConnection.objects.get(tenant=acme))
    assert get_env_secret("STRIPE_SECRET_KEY", tenant=acme.pk) == STRIPE
    assert report(env, "--tenant", "acme")["STRIPE_SECRET_KEY"]["is_safe_to_delete"]


def test_the_report_for_a_tenant_names_what_it_is_answered_from(env: Path) -> None:
    acme = make_tenant("acme")
    delete_connection(ExternalApiConnection.objects.get(external_api__slug="twilio"))
    with CaptureQueriesContext(connection) as queries:
        found = report(env, "--tenant", "acme")
    assert len([query for query in queries if "connections_environmentvariable" in query["sql"]]) == 1
    assert get_env_secret("STRIPE_SECRET_KEY", tenant=acme.pk) == STRIPE
    assert found["STRIPE_SECRET_KEY"]["source"] == "stripe/default access_token"
    assert found["STRIPE_SECRET_KEY"]["is_safe_to_delete"]
    assert (found["TWILIO_AUTH_TOKEN"]["source"], found["TWILIO_AUTH_TOKEN"]["reason"]) == (
        "environment",
        "was deleted from the database",
    )
    # As by a process that saw the connection deleted for a while.
    row = ExternalApiConnection.objects.get(external_api__slug="stripe")
    delete_connection(row)
    get_env_secret("STRIPE_SECRET_KEY", tenant=acme.pk)
    ExternalApiConnection.objects.filter(pk=row.pk).update(deleted_at=None)
    assert "after it was imported" in report(env, "--tenant", "acme")["STRIPE_SECRET_KEY"]["reason"]


def test_the_report_says_what_is_safe_to_delete_and_why_the_rest_is_not(
    env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_API_KEY", "of nobody")
    get_env_secret("ACME_API_KEY")
    env.write_text(env.read_text() + "ACME_API_KEY=x\nOPENAI_API_KEY=sk-1\n")
    update_connection(
        ExternalApiConnection.objects.get(external_api__slug="twilio"), {"credentials": {"password": "another"}}
    )
    found = report(env)
    assert {name: one["reason"] for name, one in found.items()} == {
        "ACME_API_KEY": "is not in the database",
        "FACEBOOK_APP_ID": "",
        "FACEBOOK_APP_SECRET": "",
        "OPENAI_API_KEY": "is not in the database",
        "STRIPE_SECRET_KEY": "",
        "TWILIO_ACCOUNT_SID": "",
        "TWILIO_AUTH_TOKEN": "differs from what is stored",
        "TWILIO_PHONE_NUMBER": "",
    }
    assert found["STRIPE_SECRET_KEY"]["source"] == "stripe/default access_token"
    assert found["ACME_API_KEY"]["answered_from_environment"] == 1
    out = io.StringIO()
    call_command("import_env", "--file", str(env), "--report", stdout=out)
    assert "STRIPE_SECRET_KEY: safe to delete (from stripe/default access_token)" in out.getvalue()
    assert "ACME_API_KEY: keep: it is not in the database (from environment, last answered" in out.getvalue()
    assert out.getvalue().splitlines()[-1].startswith("Only get_env_secret is counted")
    assert STRIPE not in out.getvalue()
    assert "another" not in out.getvalue()


def test_an_answer_for_another_tenant_or_for_none_counts_for_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, other = make_tenant("acme"), make_tenant("other")
    file = tmp_path / ".env"
    file.write_text("STRIPE_SECRET_KEY=of acme")
    monkeypatch.setenv("STRIPE_SECRET_KEY", "of acme")
    get_env_secret("STRIPE_SECRET_KEY", tenant=acme.pk)  # before its import, which is over
    call_command("import_env", "--file", str(file), "--apply", "--tenant", "acme", stdout=io.StringIO())
    assert report(file, "--tenant", "acme")["STRIPE_SECRET_KEY"]["is_safe_to_delete"]
    for tenant in (None, other.pk):
        get_env_secret("STRIPE_SECRET_KEY", tenant=tenant)
        found = report(file, "--tenant", "acme")["STRIPE_SECRET_KEY"]
        assert (found["is_safe_to_delete"], found["reason"]) == (
            False,
            "was answered from the environment without this tenant",
        )
        assert found["answered_from_environment"] == 2
        EnvironmentVariable.objects.exclude(tenant=acme).delete()
    # What everybody has answers for every other tenant from its import on.
    get_env_secret("STRIPE_SECRET_KEY", tenant=other.pk)
    call_command("import_env", "--file", str(file), "--apply", stdout=io.StringIO())
    assert report(file, "--tenant", "acme")["STRIPE_SECRET_KEY"]["is_safe_to_delete"]
    assert report(file)["STRIPE_SECRET_KEY"]["is_safe_to_delete"]
    # Until it is deleted: then the other tenant is answered from the environment again, asked or not.
    delete_connection(ExternalApiConnection.objects.get(tenant=None))
    found = report(file, "--tenant", "acme")["STRIPE_SECRET_KEY"]
    assert found["reason"] == "was answered from the environment without this tenant"


@pytest.mark.parametrize("name", ["TWILIO_PHONE_NUMBER", "TWILIO_AUTH_TOKEN"])
def test_what_was_answered_from_the_database_is_in_use(env: Path, name: str) -> None:
    get_env_secret(name)
    out = io.StringIO()
    call_command("import_env", "--undo", ImportRun.objects.get().pk, "--json", stdout=out)
    assert "its secrets were read since" in {one["reason"] for one in json.loads(out.getvalue())["left"]}
    assert get_env_secret(name)


def test_a_variable_that_is_still_asked_for_after_its_import_is_kept(env: Path) -> None:
    # As by a process that asks another tenant's installation, or that saw the connection deleted for a while.
    row = ExternalApiConnection.objects.get(external_api__slug="stripe")
    delete_connection(row)
    get_env_secret("STRIPE_SECRET_KEY")
    ExternalApiConnection.objects.filter(pk=row.pk).update(deleted_at=None)
    assert "answered from the environment after" in report(env)["STRIPE_SECRET_KEY"]["reason"]
