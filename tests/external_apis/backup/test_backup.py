"""Backup and restore between two real databases: all of it, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections
from django.db.models.signals import post_migrate
from psycopg import sql
from pytest_django import DjangoDbBlocker

from config.runtime import CHECKOUT
from connections.models import ExternalApiCredential
from external_apis.backup import container, key_file
from external_apis.backup.tables import stored_tables
from external_apis.data_keys import data_keys
from external_apis.key_registry import register_writing_key
from external_apis.models import Account, DataKey, EncryptionKey, ExternalApi
from external_apis.shredding import shred
from tests.factories import make_connection, make_provider, make_tenant, make_user
from tests.vault import age, keys

pytestmark = pytest.mark.django_db(transaction=True)

PASSPHRASE = "a passphrase of the tests, with a tab\tand ümläuts"
AWKWARD = "a\tb\nc\\d \\N \\. ünï 日本 \x7f \u2028 '\";--"
AWKWARD_TOKEN = f"token {AWKWARD}".replace("\n", "")  # no header can hold a line break


@pytest.fixture(autouse=True)
def _own(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BACKUP_KEYS_FILE = str(tmp_path / "backup-keys.json")
    settings.ENCRYPTION_KEYS = keys(a=1)
    monkeypatch.setenv("BACKUP_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(container, "_SCRYPT_N", 2**10)


@pytest.fixture
def blank() -> Iterator[dict[str, Any]]:
    """Another database on the same server, without a table; entered by `elsewhere`."""
    with _database("second") as found:
        yield found


@pytest.fixture
def second(migrated: str) -> Iterator[dict[str, Any]]:
    """As `blank`, with all tables; nothing stands in them. It is there in a tenth of the time that migrating takes."""
    with _database("second", migrated) as found:
        yield found


@pytest.fixture(scope="module")
def migrated(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The name of a database that has been migrated, to copy."""
    with django_db_blocker.unblock(), _database("migrated") as found:
        with elsewhere(found):
            call_command("migrate", verbosity=0)
        yield found["NAME"]


@contextmanager
def _database(ending: str, template: str = "template1") -> Iterator[dict[str, Any]]:
    """Make a database with its own name, and drop it afterwards."""
    name = f"{connection.settings_dict['NAME']}_{ending}"
    with psycopg.connect(**{**connection.get_connection_params(), "dbname": "postgres"}, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        server.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        yield {**connection.settings_dict, "NAME": name}
        server.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


class elsewhere:  # noqa: N801
    """Use another database for a while."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters

    def __enter__(self) -> None:
        data_keys().forget()
        connections.close_all()
        self.before, connection.settings_dict = connection.settings_dict, self.parameters

    def __exit__(self, *_: object) -> None:
        connections.close_all()
        connection.settings_dict = self.before
        data_keys().forget()


def fill() -> None:
    """Rows of every kind: users with permissions, tenants, histories, secrets of both forms, awkward text."""
    register_writing_key()
    tenant = make_tenant("acme")
    make_user("alice", tenant=tenant, permissions=["external_apis.view_externalapi"])
    own = make_provider(slug="own", tenant=tenant, api_config={"api_key": {"key": "the key of the provider"}})
    own.name = AWKWARD
    own.save()
    make_connection(own, tenant=tenant, note=AWKWARD, credentials={"access_token": AWKWARD_TOKEN})
    age([make_connection(credentials={"access_token": "of the first version"}).credential])


def everything() -> dict[str, list[Any]]:
    """All rows of all tables as text, in no particular order; without what a restore has to leave out."""
    left_out = {"django_migrations", "django_session"}
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table not in left_out:
                cursor.execute(f'SELECT t::text FROM "{table}" AS t')
                found[table] = sorted(cursor.fetchall())
    return found


def tokens() -> set[str]:
    return {row.secrets["access_token"] for row in ExternalApiCredential.objects.all()}


def backed_up(path: Path) -> Path:
    call_command("backup", str(path))
    return path


def test_everything_comes_back_in_an_empty_database(tmp_path: Path, blank: dict[str, Any]) -> None:
    fill()
    file = backed_up(tmp_path / "backup")
    before = everything()
    assert sum(map(len, before.values())) > 100
    with elsewhere(blank):
        call_command("restore", str(file))
        after = everything()
        # Nothing is added but the event of the restoring itself.
        (added,) = set(after["external_apis_auditevent"]) - set(before["external_apis_auditevent"])
        after["external_apis_auditevent"].remove(added)
        assert "backup.restored" in added[0]
        assert after == before
        assert tokens() == {AWKWARD_TOKEN, "of the first version"}
        assert Account.objects.get().user.has_perm("external_apis.view_externalapi")
        # New rows find free ids behind the restored ones.
        make_user("bob", permissions=["external_apis.view_externalapi"])
        ExternalApi.objects.get(slug="own").save()
        with pytest.raises(CommandError, match="not empty"):
            call_command("restore", str(file))


def test_rows_that_migrations_make_give_way(tmp_path: Path, blank: dict[str, Any]) -> None:
    """As the site of ``django.contrib.sites``: the backup has its own of them."""
    fill()
    Group.objects.create(name="of the backup")
    file = backed_up(tmp_path / "backup")

    def make(**_: Any) -> None:
        Group.objects.get_or_create(name="made by migrate")

    post_migrate.connect(make)
    try:
        with elsewhere(blank):
            call_command("restore", str(file))
            assert [group.name for group in Group.objects.all()] == ["of the backup"]
    finally:
        post_migrate.disconnect(make)


def test_a_project_that_names_no_file_for_the_keys_is_told(settings: Any, tmp_path: Path) -> None:
    settings.BACKUP_KEYS_FILE = ""
    with pytest.raises(CommandError, match="Set BACKUP_KEYS_FILE"):
        call_command("backup", str(tmp_path / "backup"))
    assert not list(tmp_path.iterdir())


def test_generated_columns_are_left_to_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Group._meta.get_field("name"), "generated", True, raising=False)
    (table,) = (table for table in stored_tables() if table.name == "auth_group")
    assert table.columns == ["id"]


def test_processes_of_their_own_do_it_too(tmp_path: Path, blank: dict[str, Any]) -> None:
    """``manage.py restore`` with a URL, into a database without a table, and ``check_encryption_keys`` after it."""
    fill()
    file = backed_up(tmp_path / "backup")
    environ = {
        **os.environ,
        "DATABASE_URL": _url(blank),
        "MIGRATE_DATABASE_URL": _url(blank),
        "REDIS_URL": django_settings.REDIS_URL,
        "ENCRYPTION_KEYS": keys(a=1),
        "BACKUP_KEYS_FILE": django_settings.BACKUP_KEYS_FILE,
        "SECRET_KEY": "x",
        "JWT_SECRET": "j" * 60,
    }
    for command in (["restore", str(file)], ["check_encryption_keys"], ["rotate_encryption_keys"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=CHECKOUT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert PASSPHRASE not in done.stdout + done.stderr


def _url(database: dict[str, Any]) -> str:
    return (
        f"postgresql://{database['USER']}:{database['PASSWORD']}@/{database['NAME']}"
        f"?host={database['HOST'] or database['OPTIONS'].get('host')}&port={database['PORT'] or 5432}"
    )


def test_no_secret_and_no_name_stands_in_the_file(tmp_path: Path) -> None:
    fill()
    data = backed_up(tmp_path / "backup").read_bytes()
    for word in ("acme", "alice", "externalapi", "the key of the provider", "SELECT", PASSPHRASE):
        assert word.encode() not in data
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_a_wrong_passphrase_and_damage_change_nothing(
    tmp_path: Path, blank: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()
    file = backed_up(tmp_path / "backup")
    data = file.read_bytes()
    damaged = bytearray(data)
    damaged[-40] ^= 1
    with elsewhere(blank):
        monkeypatch.setenv("BACKUP_PASSPHRASE", "wrong")
        with pytest.raises(CommandError, match="passphrase is wrong"):
            call_command("restore", str(file))
        monkeypatch.setenv("BACKUP_PASSPHRASE", PASSPHRASE)
        for content in (bytes(damaged), data[:-1], data[: len(data) // 2], data[:20], b"", data + b"x"):
            file.write_bytes(content)
            with pytest.raises(CommandError):
                call_command("restore", str(file))
        with pytest.raises(CommandError, match="No such file"):
            call_command("restore", str(tmp_path / "none"))
        assert connection.introspection.table_names() == []


def test_a_failure_in_the_middle_leaves_the_database_empty(
    tmp_path: Path, second: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()
    file = backed_up(tmp_path / "backup")
    with elsewhere(second):
        monkeypatch.setattr("external_apis.backup.load._put_keys", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call_command("restore", str(file))
        assert not ExternalApi.objects.exists()
        assert not DataKey.objects.exists()
        monkeypatch.undo()
        monkeypatch.setenv("BACKUP_PASSPHRASE", PASSPHRASE)


def test_a_shredded_tenant_stays_shredded_in_an_old_backup(tmp_path: Path, second: dict[str, Any]) -> None:
    fill()
    file = backed_up(tmp_path / "backup")
    shred(ExternalApi.objects.get(slug="own").tenant)  # type: ignore[arg-type]
    with elsewhere(second):
        call_command("restore", str(file))
        own = ExternalApiCredential.objects.get(tenant__slug="acme")
        with pytest.raises(Exception, match="destroyed"):
            _ = own.secrets
        assert ExternalApiCredential.objects.get(tenant=None).secrets["access_token"] == "of the first version"
        assert DataKey.objects.get(tenant__slug="acme").shredded_at is not None


def test_a_backup_from_before_a_rotation_needs_the_new_key_alone(
    tmp_path: Path, second: dict[str, Any], settings: Any
) -> None:
    fill()
    call_command("rotate_encryption_keys")  # nothing is left directly under the master key
    file = backed_up(tmp_path / "backup")
    settings.ENCRYPTION_KEYS = keys(b=2, a=1)
    call_command("rotate_encryption_keys")
    settings.ENCRYPTION_KEYS = keys(b=2)
    with elsewhere(second):
        call_command("restore", str(file))
        assert "of the first version" in tokens()
        call_command("check_encryption_keys")
        assert EncryptionKey.objects.get(retired_at=None).pk == "b"


def test_missing_keys_are_told_before_anything_is_written(tmp_path: Path, blank: dict[str, Any], settings: Any) -> None:
    fill()
    file = backed_up(tmp_path / "backup")
    with elsewhere(blank):
        settings.ENCRYPTION_KEYS = keys(c=3)
        with pytest.raises(CommandError, match="'a'"):
            call_command("restore", str(file))
        settings.ENCRYPTION_KEYS = keys(a=1)
        Path(settings.BACKUP_KEYS_FILE).unlink()
        with pytest.raises(CommandError, match="not in BACKUP_KEYS_FILE"):
            call_command("restore", str(file))
        assert connection.introspection.table_names() == []
        call_command("restore", str(file), accept_lost_keys=True)
        assert ExternalApi.objects.get(slug="own").name == AWKWARD
        assert not DataKey.objects.filter(shredded_at=None).exists()


def test_a_file_is_never_overwritten_and_needs_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = backed_up(tmp_path / "backup")
    before = file.read_bytes()
    with pytest.raises(CommandError, match="there already"):
        call_command("backup", str(file))
    assert file.read_bytes() == before
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("backup", "/dev/null/backup")
    monkeypatch.delenv("BACKUP_PASSPHRASE")
    with pytest.raises(CommandError, match="Set BACKUP_PASSPHRASE"):
        call_command("backup", str(tmp_path / "other"))
    (tmp_path / "phrase").write_text(PASSPHRASE + "\n")
    monkeypatch.setenv("BACKUP_PASSPHRASE_FILE", str(tmp_path / "phrase"))
    call_command("backup", str(tmp_path / "other"))
    assert key_file.read() == {}
