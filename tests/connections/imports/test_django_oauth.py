"""``manage.py import_django_oauth``: old tables in a schema of their own, read through a URL as another database is."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from social_django.models import UserSocialAuth

from config import runtime
from connections.imports import runs
from connections.imports.django_oauth import importing, users
from connections.imports.django_oauth.old_rows import OldUser
from connections.imports.django_oauth.users import Users
from connections.models import ExternalApiConnection, Grant, GrantState, ImportedRow, ImportRun
from connections.oauth import grants
from connections.oauth.tokens import Tokens
from connections.services import delete_connection, get_connection, update_connection
from external_apis.data_keys import data_keys
from external_apis.models import Account, AuditEvent, ExternalApi
from external_apis.rotation import replace_data_keys
from tests.connections.imports.old_oauth_tables import OldTables, ascii_tables, old_tables
from tests.factories import make_provider, make_tenant, make_user
from tests.grants import grant_of, oauth2_config, secrets_of
from tests.processes import environ_of_tests

pytestmark = pytest.mark.django_db

SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def old() -> Iterator[OldTables]:
    with old_tables("old_oauth") as tables:
        yield tables


def imported(*arguments: str) -> tuple[dict[str, Any], int]:
    """Run the command with ``--json``; return what it told of an import, if it came to one, and its exit code."""
    out = io.StringIO()
    code = 0
    try:
        call_command("import_django_oauth", *arguments, "--json", stdout=out, stderr=io.StringIO())
    except CommandError as error:
        code = error.returncode
    answer = json.loads(out.getvalue()) if out.getvalue() else {}
    return ({} if "error" in answer else answer), code


def taken(old: OldTables, *arguments: str) -> tuple[dict[str, Any], int]:
    return imported("--database-url", old.url, "--apply", *arguments)


def google(number: int = 1, **more: Any) -> dict[str, Any]:
    now = int(timezone.now().timestamp())
    data = {"access_token": f"at-there-{number}", "refresh_token": f"rt-there-{number}", "token_type": "Bearer"}
    return {**data, "expires": 3600, "auth_time": now, "scope": "openid email", **more}


def reasons(answer: dict[str, Any]) -> dict[str, list[str]]:
    return {one["reason"]: one["rows"] for one in answer["reasons"]}


def test_tokens_of_both_libraries_become_their_users_connections(old: OldTables, tmp_path: Path) -> None:
    ada, bob = make_user("ada", email="Ada@example.com"), make_user("bob", email="bob@example.com")
    old.social(old.user("ada.there", "ada@example.com"), "google-oauth2", "ada@gmail", google())
    there = old.user("bob.there", "bob@example.com")
    app = old.app("github", "github-client", "github-secret-of-tests")
    old.token(there, "github", "77", "gho-bob", "ghr-bob", app=app, expires_at=SOON)
    env = tmp_path / ".env"
    env.write_text('SOCIAL_AUTH_GOOGLE_OAUTH2_KEY="google-client"\nSOCIAL_AUTH_GOOGLE_OAUTH2_SECRET=google-secret\n')
    answer, code = taken(old, "--file", str(env))
    assert (code, answer["counts"]) == (0, {"created": 2})
    assert [(one["slug"], one["what"], one["client"]) for one in answer["providers"]] == [
        ("github-oauth2", "new", True),
        ("google-oauth2", "new", True),
    ]
    rows = {
        row.user.user: row
        for row in ExternalApiConnection.objects.select_related("user__user", "credential")
        if row.user
    }
    assert secrets_of(rows[ada]) == {"access_token": "at-there-1", "refresh_token": "rt-there-1"}
    assert secrets_of(rows[bob]) == {"access_token": "gho-bob", "refresh_token": "ghr-bob"}
    assert (rows[ada].credential.scopes, rows[ada].provider_data) == (["openid", "email"], {"uid": "ada@gmail"})
    assert rows[bob].credential.expires_at == SOON
    assert ExternalApi.objects.get(slug="google-oauth2").secrets["oauth2.client_secret"] == "google-secret"
    assert ExternalApi.objects.get(slug="github-oauth2").secrets["oauth2.client_id"] == "github-client"
    assert (
        get_connection("github-oauth2", user=Account.objects.get(user=bob).pk).credentials["access_token"] == "gho-bob"
    )


def test_a_grant_is_due_from_the_moment_of_the_import(old: OldTables) -> None:
    api = make_provider(slug="theirs", environment="development", api_config=oauth2_config("http://127.0.0.1:9"))
    for number, name in enumerate(("fresh", "ended", "lost", "endless")):
        make_user(name, email=f"{name}@example.com")
        data = google(number)
        if name in ("ended", "lost"):
            data |= {"expires": 3600, "auth_time": 1_600_000_000}
        if name == "lost":
            del data["refresh_token"]
        if name == "endless":
            del data["expires"]
        old.social(old.user(name), "sandbox", f"uid-{number}", data)
    assert taken(old, "--provider", "sandbox=theirs")[1] == 0
    rows = {
        row.user.user.get_username(): row for row in ExternalApiConnection.objects.filter(external_api=api) if row.user
    }
    now = timezone.now()
    fresh, ended, lost, endless = (grant_of(rows[name]) for name in ("fresh", "ended", "lost", "endless"))
    assert fresh.due_at is not None
    assert now < fresh.due_at < now + timedelta(hours=1)
    assert ended.due_at is not None
    assert ended.due_at < now
    assert (ended.state, rows["ended"].status) == (GrantState.GOOD, "active")
    assert (lost.state, lost.due_at, rows["lost"].status) == (GrantState.ENDED, None, "expired")
    assert endless.due_at is None
    assert not Grant.objects.exclude(renewed_at=None).exists()


def test_a_dry_run_tells_what_would_be_done_and_changes_nothing(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    old.social(old.user("ada"), "google-oauth2", "1", google())
    old.social(old.user("eve"), "nobody-knows", "1", google())
    answer, code = imported("--database-url", old.url, "--create-users")
    assert (answer["applied"], answer["run"], answer["counts"], code) == (False, None, {"created": 1, "failed": 1}, 1)
    assert [(one["slug"], one["what"]) for one in answer["providers"]] == [("google-oauth2", "new"), ("", "")]
    for model in (ExternalApi, ExternalApiConnection, ImportRun, ImportedRow, AuditEvent):
        assert not model._default_manager.exists()
    assert (User.objects.count(), Account.objects.count()) == (1, 1)


def test_a_dry_run_comes_to_what_the_import_comes_to(old: OldTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_SIZE", 1)
    make_user("ada", email="ada@example.com")
    config = oauth2_config("https://127.0.0.1:9") | {"base_url": "https://{shop}.example.com"}
    make_provider(slug="shop", api_config=config | {"url_variables": {"shop": {}}})
    eve = old.user("eve")
    old.social(old.user("ada"), "google-oauth2", "1", google(1))
    old.social(eve, "google-oauth2", "2", google(2))
    old.social(eve, "shop", "3", google(3))
    old.token(eve, "google", "2", "at-again", "rt-again", expires_at=SOON)
    dry = imported("--database-url", old.url, "--create-users", "--provider", "shop=shop")[0]
    assert dry["counts"] == {"created": 2, "skipped": 1, "failed": 1}
    assert not ExternalApiConnection.objects.exists()
    answer = taken(old, "--create-users", "--provider", "shop=shop")[0]
    assert (answer["counts"], answer["reasons"]) == (dry["counts"], dry["reasons"])


def test_a_second_run_recognises_all_takes_what_changed_there_alone_and_names_conflicts(old: OldTables) -> None:
    numbers = []
    for at, name in enumerate(("ada", "bob", "cleo")):
        make_user(name, email=f"{name}@example.com")
        numbers.append(old.social(old.user(name), "google-oauth2", name, google(at)))
    assert taken(old)[0]["counts"] == {"created": 3}
    assert taken(old)[0]["counts"] == {"recognised": 3}
    rows = {row.provider_data["uid"]: row for row in ExternalApiConnection.objects.select_related("credential")}
    for name in ("ada", "bob"):  # ours was renewed; bob's there as well
        row = ExternalApiConnection.objects.select_related("credential", "external_api").get(pk=rows[name].pk)
        grants.store_tokens(row, Tokens(f"at-here-{name}", f"rt-here-{name}"), cause="test")
    for number in numbers[1:]:
        old.run(
            "UPDATE social_auth_usersocialauth SET extra_data = extra_data || %s::jsonb WHERE id = %s",
            json.dumps({"access_token": "at-newer", "refresh_token": "rt-newer"}),
            number,
        )
    answer, code = taken(old)
    assert (answer["counts"], code) == ({"recognised": 1, "failed": 1, "updated": 1}, 1)
    (reason,) = reasons(answer)
    assert "two systems renew them" in reason
    assert reasons(answer)[reason] == [f"social_auth:{numbers[1]}"]
    assert secrets_of(rows["ada"])["access_token"] == "at-here-ada"
    assert secrets_of(rows["bob"])["access_token"] == "at-here-bob"
    assert secrets_of(rows["cleo"]) == {"access_token": "at-newer", "refresh_token": "rt-newer"}
    assert taken(old)[0]["counts"] == {"recognised": 2, "failed": 1}


def test_replaced_data_keys_and_dry_runs_make_no_conflict_and_hold_nothing_up(old: OldTables) -> None:
    for at, name in enumerate(("ada", "bob")):
        make_user(name, email=f"{name}@example.com")
        number = old.social(old.user(name), "google-oauth2", name, google(at))
    taken(old)
    row = ExternalApiConnection.objects.select_related("credential", "external_api").get(provider_data__uid="ada")
    grants.store_tokens(row, Tokens("at-here", "rt-here"), cause="test")
    replace_data_keys()
    data_keys().forget()
    newer = json.dumps(google(2))
    old.run("UPDATE social_auth_usersocialauth SET extra_data = %s WHERE id = %s", newer, number)
    with CaptureQueriesContext(database) as queries:
        answer, _ = imported("--database-url", old.url)
    assert answer["counts"] == {"recognised": 1, "updated": 1}
    assert not any("UPDATE" in query["sql"] and "externalapiconnection" in query["sql"] for query in queries)
    assert taken(old)[0]["counts"] == {"recognised": 1, "updated": 1}


def test_rows_that_cannot_be_imported_fail_with_their_reasons_and_the_rest_goes_on(old: OldTables) -> None:
    old.run("ALTER TABLE social_auth_usersocialauth ALTER extra_data TYPE text")
    make_user("ada", email="ada@example.com")
    user, stranger, nameless = old.user("ada"), old.user("eve"), old.user("nameless", "")
    rows = {
        "extra_data is not JSON": old.social(user, "google-oauth2", "1", "{'access_token': "),
        "extra_data is no JSON object": old.social(user, "google-oauth2", "2", "[1]"),
        "extra_data holds no access_token": old.social(user, "google-oauth2", "3", ""),
        "its access_token is nothing that a request could carry": old.social(
            user, "google-oauth2", "4", {"access_token": "two\nlines"}
        ),
        "nobody has the same e-mail address": old.social(stranger, "google-oauth2", "5", google()),
        "has no e-mail address there": old.social(nameless, "google-oauth2", "6", google()),
        "the catalogue does not know it": old.social(user, "no-such-provider", "7", google()),
        "its token is none of OAuth 1.0a": old.social(user, "twitter", "8", google()),
    }
    old.social(user, "google-oauth2", "twice encoded", json.dumps(json.dumps(google())))
    old.social(user, "google-oauth2", "deep", "[" * 100_000)
    answer, code = taken(old)
    assert (answer["counts"], code) == ({"failed": 9, "created": 1}, 1)
    for text, number in rows.items():
        (found,) = [keys for reason, keys in reasons(answer).items() if text in reason]
        assert f"social_auth:{number}" in found
    assert ExternalApiConnection.objects.get().provider_data["uid"] == "twice encoded"


def test_a_user_has_each_account_at_a_provider_once(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    user = old.user("ada")
    old.social(user, "google-oauth2", "First@gmail.com", google(1))
    old.social(user, "google-oauth2", "Second@gmail.com", google(2))
    old.token(user, "google", "First@gmail.com", "at-again", "rt-again", expires_at=SOON)
    answer, code = taken(old)
    assert (answer["counts"], code) == ({"created": 2, "skipped": 1}, 0)
    assert set(ExternalApiConnection.objects.values_list("slug", flat=True)) == {"default", "second-gmail-com"}


def test_another_client_of_a_provider_gets_a_provider_of_its_own(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    user = old.user("ada")
    for name in ("one", "two"):
        old.token(user, "github", name, f"at-{name}", f"rt-{name}", app=old.app("github", f"client-{name}", "secret"))
    assert taken(old)[0]["counts"] == {"created": 2}
    clients = {row.external_api.secrets["oauth2.client_id"] for row in ExternalApiConnection.objects.all()}
    assert clients == {"client-one", "client-two"}
    assert taken(old)[0]["counts"] == {"recognised": 2}


def test_a_provider_that_is_here_is_completed_and_never_given_another_client(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    bare = oauth2_config("https://provider.example.com")
    client = bare["oauth2"].pop("client_id"), bare["oauth2"].pop("client_secret")
    api = make_provider(slug="theirs", api_config=bare)
    old.token(old.user("ada"), "ours", "1", "at", "rt", app=old.app("ours", *client))
    assert taken(old, "--provider", "ours=theirs")[0]["providers"][0]["what"] == "completed"
    assert ExternalApi.objects.get(pk=api.pk).secrets["oauth2.client_secret"] == client[1]
    old.token(old.user("bob"), "ours", "2", "at", "rt", app=old.app("ours", "another", "secret"))
    make_user("bob", email="bob@example.com")
    answer, code = taken(old, "--provider", "ours=theirs")
    assert code == 1
    assert any("registered with another client id" in reason for reason in reasons(answer))
    assert imported("--database-url", old.url, "--provider", "ours=nowhere") == ({}, 1)


def test_apps_become_providers_also_where_no_tokens_were_stored(old: OldTables, tmp_path: Path) -> None:
    old.app("github", "github-client", "github-secret-of-tests")
    old.app("openid_connect", "client-of-some-idp", "secret")
    old.run(
        "INSERT INTO socialaccount_socialaccount (user_id, provider, uid) VALUES (%s, 'github', '1')", old.user("a")
    )
    env = tmp_path / ".env"
    env.write_text(
        "SOCIAL_AUTH_GOOGLE_OAUTH2_KEY=google-client\nSOCIAL_AUTH_GOOGLE_OAUTH2_SECRET=s\nSOCIAL_AUTH_X_KEY=\n"
    )
    answer, code = taken(old, "--file", str(env))
    assert (answer["counts"], code) == ({}, 0)
    assert answer["notes"] == ["1 accounts of allauth have no token (SOCIALACCOUNT_STORE_TOKENS was off)."]
    assert {one["name"]: one["what"] for one in answer["providers"]} == {
        "github": "new",
        "openid_connect": "",
        "google-oauth2": "new",
    }
    clients = {api.slug: api.secrets["oauth2.client_id"] for api in ExternalApi.objects.all()}
    assert clients == {"github-oauth2": "github-client", "google-oauth2": "google-client"}
    assert {one["what"] for one in taken(old)[0]["providers"]} == {"here", ""}
    old.run("DROP TABLE socialaccount_socialtoken, social_auth_usersocialauth")
    assert imported("--undo", answer["run"])[0]["removed"] == 2
    assert taken(old)[1] == 0


def test_tokens_of_oauth_1_keep_their_secrets(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    user = old.user("ada")
    pair = {"oauth_token": "ot-1", "oauth_token_secret": "os-1", "screen_name": "ada"}
    old.social(user, "twitter", "1", {"access_token": pair})
    old.token(user, "tumblr", "ada.tumblr.com", "ot-2", "os-2")
    assert taken(old)[0]["counts"] == {"created": 2}
    rows = {row.external_api.slug: secrets_of(row) for row in ExternalApiConnection.objects.all()}
    assert rows["twitter"] == {"oauth_token": "ot-1", "oauth_token_secret": "os-1"}
    assert rows["tumblr"] == {"oauth_token": "ot-2", "oauth_token_secret": "os-2"}


def test_users_are_made_without_rights_where_that_is_wanted_and_never_twice(old: OldTables) -> None:
    tenant = make_tenant("acme")
    make_user("eve", email="another@example.com")
    old.social(old.user("eve"), "google-oauth2", "1", google())
    assert taken(old, "--create-users", "--tenant", "acme")[0]["counts"] == {"created": 1}
    row = ExternalApiConnection.objects.select_related("user__user").get()
    assert row.user is not None
    assert (row.tenant, row.user.tenant) == (tenant, tenant)
    user = row.user.user
    assert (user.username, user.email, user.is_staff, user.has_usable_password()) == (
        "eve-2",
        "eve@example.com",
        False,
        False,
    )
    assert taken(old, "--create-users", "--tenant", "acme")[0]["counts"] == {"recognised": 1}
    assert User.objects.count() == 2
    assert set(AuditEvent.objects.values_list("action", flat=True)) >= {"user.created", "connection.created"}
    assert AuditEvent.objects.get(action="account.created").tenant_id == tenant.pk


def test_an_account_that_is_opened_meanwhile_is_taken_and_belongs_to_no_tenant(
    old: OldTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of users who are here and have none: one gets it of the import, another of the sweep in the middle of it."""
    make_tenant("acme")
    for number, name in enumerate(("ada", "bob")):
        make_user(name, email=f"{name}@example.com")
        old.social(old.user(name), "google-oauth2", name, google(number))
    Account.objects.all().delete()
    real = Users._accounts_of

    def sweeps(users: Users, rows: Any) -> dict[Any, Account]:
        found = real(users, rows)
        if not Account.objects.exists():
            Account.objects.create(user=User.objects.get(username="bob"))
        return found

    monkeypatch.setattr(Users, "_accounts_of", sweeps)
    assert taken(old, "--tenant", "acme") == (mock.ANY, 0)
    accounts = {row.user.user.username: row.user for row in ExternalApiConnection.objects.all() if row.user}
    assert [accounts[name].tenant for name in ("ada", "bob")] == [None, None]
    opened = AuditEvent.objects.get(action="account.created")
    assert (opened.object_id, opened.tenant_id) == (accounts["ada"].pk, None)


def test_a_name_that_is_taken_meanwhile_is_its_takers(old: OldTables, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("ada", "bob")):
        old.social(old.user(name), "google-oauth2", name, google(number))

    def signs_up(name: str, taken: Any) -> str:
        if name == "ada":
            make_user(name, email="another.ada@example.com")
        return name

    with monkeypatch.context() as patch:
        patch.setattr(users, "_free", signs_up)
        answer, code = taken(old, "--create-users", "--trust-emails")
    assert (code, answer["counts"]) == (1, {"created": 1, "failed": 1})
    assert reasons(answer) == {
        "its user's name was taken here a moment ago: repeat the import": ["social_auth:1"],
    }
    assert [row.user.user.email for row in ExternalApiConnection.objects.all() if row.user] == ["bob@example.com"]
    events = AuditEvent.objects.filter(action="user.created").values_list("object_id", flat=True)
    assert list(events) == [str(User.objects.get(username="bob").pk)]
    answer, code = taken(old, "--create-users", "--trust-emails")
    assert (code, answer["counts"]) == (0, {"created": 1, "recognised": 1})
    assert User.objects.get(email="ada@example.com").username == "ada-2"


def test_nobodys_connection_goes_to_an_account_that_cannot_be_told_or_is_another_tenants(old: OldTables) -> None:
    make_tenant("acme")
    make_user("one", email="shared@example.com")
    make_user("two", email="Shared@example.com")
    make_user("bob", email="bob@example.com", tenant=make_tenant("rival"))
    old.social(old.user("ada", "shared@example.com"), "google-oauth2", "1", google(1))
    old.social(old.user("bob"), "google-oauth2", "2", google(2))
    answer, code = taken(old, "--tenant", "acme")
    assert (answer["counts"], code) == ({"failed": 2}, 1)
    assert set(reasons(answer)) == {
        "several users here have its user's e-mail address",
        "its user belongs to another tenant here",
    }
    assert taken(old, "--users-by", "username", "--tenant", "rival")[0]["counts"] == {"failed": 1, "created": 1}


def test_half_of_the_tables_is_enough(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    old.token(old.user("ada"), "github", "1", "at", "rt", app=old.app("github", "client", "secret"), expires_at=SOON)
    old.run("DROP TABLE social_auth_usersocialauth")
    old.run("ALTER TABLE socialaccount_socialtoken DROP COLUMN expires_at, DROP COLUMN app_id")
    answer, code = taken(old)
    assert (code, answer["counts"], answer["providers"][0]["client"]) == (0, {"created": 1}, True)
    old.run("ALTER TABLE socialaccount_socialtoken DROP COLUMN token_secret")
    assert imported("--database-url", old.url) == ({}, 1)
    old.run("DROP TABLE socialaccount_socialtoken, socialaccount_socialapp")
    out = io.StringIO()
    with pytest.raises(CommandError, match="neither social_auth_usersocialauth nor"):
        call_command("import_django_oauth", "--database-url", old.url, stdout=out)


def test_users_are_where_the_foreign_key_leads(old: OldTables) -> None:
    ada = make_user("ada", email="ada@example.com")
    old.social(old.user("ada"), "google-oauth2", "1", google())
    old.run('ALTER TABLE auth_user RENAME COLUMN id TO "Key"')
    old.run("ALTER TABLE auth_user DROP COLUMN username")
    old.run('ALTER TABLE auth_user RENAME TO "Our ""people\'s"')
    assert taken(old)[0]["counts"] == {"created": 1}
    assert ExternalApiConnection.objects.get().user == Account.objects.get(user=ada)


def test_values_that_no_database_of_ours_could_hold_harm_no_other_row(old: OldTables) -> None:
    old.run("ALTER TABLE social_auth_usersocialauth ALTER extra_data TYPE text")
    old.run("ALTER TABLE auth_user ALTER email TYPE text")
    for name in ("ada", "bob"):
        make_user(name, email=f"{name}@example.com")
    ada = old.user("ada")
    hostile: dict[str, Any] = {"scope": "ok \0 \ud800", "token_type": "\0", "expires": 10**400, "auth_time": "soon"}
    old.social(ada, "google-oauth2", "1", google(**hostile))
    old.social(ada, "google-oauth2", "2", json.dumps(google(pad="x" * 2_000_000)))
    old.social(ada, "../..", "3", google())
    old.social(old.user("long", f"{'x' * 300}@example.com"), "google-oauth2", "4", google())
    number = old.token(old.user("bob"), "github", "5", "at", "rt", expires_at=SOON)
    old.run("UPDATE socialaccount_socialtoken SET expires_at = 'infinity' WHERE id = %s", number)
    answer, _ = taken(old, "--create-users")
    assert answer["counts"] == {"created": 2, "failed": 3}
    first, second = ExternalApiConnection.objects.select_related("credential").order_by("provider_data__uid")
    assert (first.credential.scopes, first.credential.token_type, first.credential.expires_at) == (
        ["ok"],
        "Bearer",
        None,
    )
    assert second.credential.expires_at == datetime(3000, 1, 1, tzinfo=UTC)


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_stopped_goes_on_where_it_was(old: OldTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_SIZE", 2)
    for number in range(5):
        make_user(f"user{number}", email=f"user{number}@example.com")
        old.social(old.user(f"user{number}"), "google-oauth2", str(number), google(number))
    old.token(old.user("user5"), "google", "5", "at", "rt")
    make_user("user5", email="user5@example.com")

    class Dies(Exception):
        pass

    real = runs.record

    def record(*arguments: Any) -> None:
        real(*arguments)
        if arguments[3] == {"table": "social_auth", "after": 4}:
            raise Dies

    monkeypatch.setattr(runs, "record", record)
    with pytest.raises(Dies):
        taken(old)
    assert ExternalApiConnection.objects.count() == 2
    monkeypatch.setattr(runs, "record", real)
    answer, code = taken(old)
    assert (answer["counts"], code) == ({"created": 6}, 0)
    assert answer["run"] == ImportRun.objects.get().pk
    assert ExternalApiConnection.objects.count() == 6


def test_the_old_system_waits_while_its_rows_are_taken_over(old: OldTables, monkeypatch: pytest.MonkeyPatch) -> None:
    make_user("ada", email="ada@example.com")
    old.social(old.user("ada"), "google-oauth2", "1", google())
    seen: list[str] = []
    real = runs.record

    def record(*arguments: Any) -> None:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            old.run("SELECT 1 FROM social_auth_usersocialauth FOR UPDATE NOWAIT")
        seen.append("locked")
        real(*arguments)

    monkeypatch.setattr(runs, "record", record)
    taken(old)
    old.run("SELECT 1 FROM social_auth_usersocialauth FOR UPDATE NOWAIT")
    assert seen == ["locked"]


def test_a_database_that_may_only_be_read_is_enough(old: OldTables) -> None:
    for name in ("ada", "bob"):
        make_user(name, email=f"{name}@example.com")
    old.social(old.user("ada"), "google-oauth2", "1", google())
    replica = old.url_with("-cdefault_transaction_read_only=on")
    assert imported("--database-url", replica, "--apply")[0]["counts"] == {"created": 1}
    old.run("DELETE FROM social_auth_usersocialauth")
    old.run("REVOKE UPDATE ON social_auth_usersocialauth FROM CURRENT_USER")
    old.social(old.user("bob"), "google-oauth2", "2", google(2))
    assert taken(old)[0]["counts"] == {"created": 1}


def test_undo_takes_back_what_nobody_has_used(old: OldTables) -> None:
    for at, name in enumerate(("ada", "bob")):
        old.social(old.user(name), "google-oauth2", name, google(at))
    run = taken(old, "--create-users")[0]["run"]
    used = ExternalApiConnection.objects.get(provider_data__uid="bob")
    ExternalApiConnection.objects.filter(pk=used.pk).update(last_used_at=timezone.now())
    answer, code = imported("--undo", run)
    assert code == 0
    left = {one["object_id"]: one["reason"] for one in answer["left"]}
    assert set(left) == {used.pk, used.external_api_id, str(User.objects.get().pk)}
    assert ExternalApiConnection.objects.get() == used
    assert User.objects.get().username == "bob"
    assert taken(old, "--create-users")[0]["counts"] == {"created": 1, "recognised": 1}


def test_what_was_deleted_here_is_not_imported_again(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    old.social(old.user("ada"), "google-oauth2", "1", google())
    taken(old)
    delete_connection(ExternalApiConnection.objects.get())
    answer, _ = taken(old)
    assert (answer["counts"], list(reasons(answer))) == ({"skipped": 1}, ["it was imported before and deleted here"])


@pytest.mark.django_db(transaction=True)
def test_the_same_database_needs_no_url_and_tells_users_by_their_keys(settings: Any) -> None:
    settings.SOCIAL_AUTH_GOOGLE_OAUTH2_KEY, settings.SOCIAL_AUTH_GOOGLE_OAUTH2_SECRET = "client", "secret-of-tests"
    ada, bob = make_user("ada", email="same@example.com"), make_user("bob", email="same@example.com")
    UserSocialAuth.objects.create(user=bob, provider="google-oauth2", uid="1", extra_data=google())
    UserSocialAuth.objects.create(user=ada, provider="oidc", uid="our own staff")
    answer, code = imported("--apply")
    assert (answer["counts"], code, answer["providers"][0]["client"]) == ({"created": 1, "skipped": 1}, 0, True)
    assert ExternalApiConnection.objects.get().user == Account.objects.get(user=bob)


def test_users_of_another_table_of_the_same_database_are_found_by_their_address() -> None:
    ada = make_user("ada", email="ada@example.com")
    users = Users(None, by="email", creates=False, is_own_database=True)
    wanted = [OldUser("people", "7", "ada", "ada@example.com"), OldUser("auth_user", str(ada.pk))]
    found, _ = users.find(wanted, ())
    assert [one.account and one.account.user for one in found.values()] == [ada, ada]


def test_what_was_revoked_here_stays_revoked(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    number = old.social(old.user("ada"), "google-oauth2", "1", google(1))
    taken(old)
    update_connection(ExternalApiConnection.objects.get(), {"status": "revoked"})
    newer = json.dumps(google(2))
    old.run("UPDATE social_auth_usersocialauth SET extra_data = %s WHERE id = %s", newer, number)
    answer, code = taken(old)
    assert (answer["counts"], code) == ({"skipped": 1}, 0)
    assert list(reasons(answer)) == ["it was imported before and revoked here"]
    row = ExternalApiConnection.objects.get()
    assert (row.status, secrets_of(row)["access_token"]) == ("revoked", "at-there-1")


def test_nobody_takes_anothers_address_over(old: OldTables) -> None:
    victim, kim = make_user("victim", email="victim@example.com"), make_user("kim", email="kim@example.com")
    old.social(old.user("mallory", "VICTIM@example.com"), "google-oauth2", "1", google(1))
    old.social(old.user("victim"), "google-oauth2", "2", google(2))
    old.social(old.user("kelvin", "\u212aim@example.com"), "google-oauth2", "3", google(3))
    old.social(old.user("kim", "KIM@example.com"), "google-oauth2", "4", google(4))
    answer, _ = taken(old)
    assert answer["counts"] == {"created": 1, "failed": 3}
    shared, unknown = (next(keys for text, keys in reasons(answer).items() if part in text) for part in ("share", "no"))
    assert (len(shared), len(unknown)) == (2, 1)
    assert ExternalApiConnection.objects.get().user == Account.objects.get(user=kim)
    assert not ExternalApiConnection.objects.filter(user__user=victim).exists()
    assert taken(old, "--create-users")[0]["counts"] == {"recognised": 1, "created": 1, "failed": 2}


def test_an_address_that_allauth_has_not_verified_finds_nobody(old: OldTables) -> None:
    old.run(
        "CREATE TABLE account_emailaddress (id serial PRIMARY KEY, verified boolean NOT NULL, "
        '"primary" boolean NOT NULL DEFAULT true, user_id integer NOT NULL, email varchar(254) NOT NULL)'
    )
    for number, (name, is_verified) in enumerate((("ada", True), ("bob", False), ("cleo", None))):
        make_user(name, email=f"{name}@example.com")
        user = old.user(name)
        old.social(user, "google-oauth2", name, google(number))
        if is_verified is not None:
            statement = "INSERT INTO account_emailaddress (verified, user_id, email) VALUES (%s, %s, %s)"
            old.run(statement, is_verified, user, f"{name.title()}@example.com")
    answer, _ = taken(old)
    assert (answer["counts"], len(reasons(answer))) == ({"created": 1, "failed": 2}, 1)
    assert "not verified" in next(iter(reasons(answer)))
    assert taken(old, "--trust-emails")[0]["counts"] == {"recognised": 1, "created": 2}


def test_one_refresh_token_is_never_renewed_by_two_connections(old: OldTables) -> None:
    make_tenant("acme")
    for name in ("ada", "bob"):
        make_user(name, email=f"{name}@example.com")
    number = old.social(old.user("ada"), "google-oauth2", "1", google(1))
    taken(old)
    old.run("UPDATE social_auth_usersocialauth SET extra_data = %s WHERE id = %s", json.dumps(google(2)), number)
    answer, code = taken(old, "--tenant", "acme")
    assert (answer["counts"], code) == ({"failed": 1}, 1)
    assert "for another tenant" in next(iter(reasons(answer)))
    with old_tables("old_dump") as dump:  # of the day of the first import
        bob = dump.user("bob")
        dump.social(bob, "google-oauth2", "2", google(1))
        dump.social(bob, "google-oauth2", "3", google(3))
        dump.token(bob, "google", "4", "at-other", "rt-there-3", expires_at=SOON)
        answer, _ = taken(dump)
        assert answer["counts"] == {"created": 1, "failed": 2}
        (reason,) = reasons(answer)
        assert "same refresh token" in reason
    delete_connection(ExternalApiConnection.objects.get(provider_data__uid="1"))
    assert taken(old, "--tenant", "acme")[0]["counts"] == {"created": 1}


def test_a_database_is_known_again_however_its_url_is_spelled(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    old.social(old.user("ada"), "google-oauth2", "1", google())
    taken(old)
    answer, _ = imported("--database-url", old.url_with("-cstatement_timeout=50s"), "--apply")
    assert answer["counts"] == {"recognised": 1}


def test_no_two_users_are_made_or_found_with_one_address(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    for number, (name, email) in enumerate((("ada2", "Ada@example.com"), ("x", "y@a.example"), ("y", "Y@a.example"))):
        old.social(old.user(name, email), "google-oauth2", name, google(number))
    answer, _ = taken(old, "--users-by", "username", "--create-users")
    assert (answer["counts"], len(reasons(answer))) == ({"failed": 3}, 2)
    assert User.objects.count() == 1


def test_a_client_that_nobody_knows_is_taken_for_the_providers_own_and_said(old: OldTables, tmp_path: Path) -> None:
    make_user("ada", email="ada@example.com")
    make_provider(slug="theirs", api_config=oauth2_config("https://provider.example.com"))
    old.token(old.user("ada"), "ours", "1", "at", "rt", expires_at=SOON)
    arguments = ("--database-url", old.url, "--provider", "ours=theirs")
    (provider,) = imported(*arguments)[0]["providers"]
    assert (provider["client"], provider["client_assumed"]) == (True, True)
    out = io.StringIO()
    call_command("import_django_oauth", *arguments, stdout=out, stderr=io.StringIO())
    assert "nobody tells which client" in out.getvalue()
    env = tmp_path / ".env"
    env.write_text("SOCIALACCOUNT_OURS_CLIENT_ID=another\nSOCIALACCOUNT_OURS_CLIENT_SECRET=s\n")
    answer, _ = imported(*arguments, "--file", str(env))
    assert any("registered with another client id" in reason for reason in reasons(answer))


def test_bytes_that_are_no_text_fail_their_row_alone() -> None:
    make_user("ada", email="ada@example.com")
    with ascii_tables("old_oauth_ascii") as old:
        user = old.user("ada")
        old.social(user, "google-oauth2", "1", google(1))
        broken = old.social(user, "google-oauth2", "2", google(2))
        old.run("UPDATE social_auth_usersocialauth SET uid = E'J\\xff' WHERE id = %s", broken)
        old.app("github", "client", "secret")
        old.run("UPDATE socialaccount_socialapp SET secret = E'\\xff'")
        answer, _ = taken(old)
        assert (answer["counts"], reasons(answer)) == (
            {"created": 1, "failed": 1},
            {"it holds bytes that are no UTF-8 text": [f"social_auth:{broken}"]},
        )
        assert "bytes that are no UTF-8" in answer["notes"][0]


@pytest.mark.django_db(transaction=True)
def test_an_import_that_was_killed_goes_on_and_takes_nothing_twice(old: OldTables) -> None:
    users = [User(username=f"user{number}", email=f"user{number}@example.com") for number in range(600)]
    User.objects.bulk_create(users)
    for user in users:
        old.social(old.user(user.username), "google-oauth2", user.username, google(user.pk))
    old.run("BEGIN")
    old.run("SELECT 1 FROM social_auth_usersocialauth WHERE id = 550 FOR UPDATE")  # the second batch waits for it
    command = [sys.executable, "manage.py", "import_django_oauth", "--apply", "--database-url", old.url]
    child = subprocess.Popen(
        command, cwd=runtime.CHECKOUT, env=environ_of_tests(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    try:
        while not ImportRun.objects.filter(position__after=500).exists():
            assert (child.poll(), time.monotonic() < deadline) == (None, True)
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
        old.run("ROLLBACK")
    assert ImportRun.objects.get().state == "running"
    answer, code = taken(old)
    assert (answer["counts"], code) == ({"created": 600}, 0)
    assert ExternalApiConnection.objects.count() == Grant.objects.count() == 600


def test_secrets_are_printed_and_noted_nowhere(old: OldTables, caplog: pytest.LogCaptureFixture) -> None:
    make_user("ada", email="ada@example.com")
    data = google(access_token="at-that-nobody-may-see", refresh_token="rt-that-nobody-may-see")
    app = old.app("github", "github-client-id", "client-secret-nobody-may-see")
    old.social(old.user("ada"), "google-oauth2", "1", data)
    old.token(old.user("eve"), "github", "2", "at2-that-nobody-may-see", "rt2-that-nobody-may-see", app=app)
    out, err = io.StringIO(), io.StringIO()
    for arguments in ([], ["--apply", "--create-users"], ["--apply"]):
        call_command("import_django_oauth", "--database-url", old.url, *arguments, stdout=out, stderr=err) if (
            arguments
        ) else imported("--database-url", old.url)
    said = out.getvalue() + err.getvalue() + caplog.text
    kept = "".join(str(list(model._default_manager.values())) for model in (ImportRun, ImportedRow, AuditEvent))
    for text in ("nobody-may-see", "nobody-asks"):
        assert text not in said
        assert text not in kept
    assert "google-oauth2 → google-oauth2, which was made of the catalogue" in said
    assert "no client id and secret are known" in said


def test_the_url_may_come_from_a_file_or_stdin(old: OldTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_user("ada", email="ada@example.com")
    old.social(old.user("ada"), "google-oauth2", "1", google())
    (tmp_path / "url").write_text(f"{old.url}\n")
    assert imported("--database-url", f"@{tmp_path / 'url'}")[0]["counts"] == {"created": 1}
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{old.url}\n"))
    assert imported("--database-url", "@-")[0]["counts"] == {"created": 1}


def test_what_the_old_tables_are_called_commands_no_terminal(old: OldTables) -> None:
    make_user("ada", email="ada@example.com")
    old.social(old.user("ada"), "\x1b]0;owned\x07\u202e", "1", google())
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("import_django_oauth", "--database-url", old.url, stdout=out)
    assert r"\x1b]0;owned\x07\u202e" in out.getvalue()
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2hunter2@host/name",
        "postgresql://user:hunter2hunter2@host:notaport/name",
        "postgresql://user:hunter2hunter2@host/",
        "postgresql://user:hunter2hunter2@127.0.0.1:1/name",
        "postgresql://user:hunter2hunter2@host/name?nonsense=1",
        "user=postgres password=hunter2hunter2",
        "@/no/such/file/hunter2hunter2",
        "",
    ],
)
def test_a_url_that_leads_nowhere_is_refused_and_never_repeated(url: str) -> None:
    err = io.StringIO()
    with pytest.raises(CommandError) as refused:
        call_command("import_django_oauth", "--database-url", url, stderr=err)
    assert "hunter2" not in str(refused.value) + err.getvalue()


def test_queries_do_not_grow_with_a_batch(old: OldTables) -> None:
    def count(name: str, number: int) -> int:
        for one in range(number):
            make_user(f"{name}{one}", email=f"{name}{one}@example.com")
            old.social(old.user(f"{name}{one}"), "google-oauth2", f"{name}{one}", google(one))
        with CaptureQueriesContext(database) as queries:
            taken(old)
        return len(queries)

    taken(old)
    few = count("few", 3)
    assert count("many", 30) <= few
