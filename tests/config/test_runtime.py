"""The embedded installation's folder, secrets and addresses."""

from __future__ import annotations

import base64
import os
import shutil
from typing import TYPE_CHECKING

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from config import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "var"
    if (tmp_path / "var" / "sockets").exists():
        recorded = (tmp_path / "var" / "sockets").read_text().strip()
        shutil.rmtree(recorded, ignore_errors=True)


def test_secrets_are_made_once_and_kept(folder: Path) -> None:
    assert runtime.prepare(folder)
    first = runtime.environment(folder)
    assert not runtime.prepare(folder)
    assert runtime.environment(folder) == first
    assert (folder / "secrets.env").stat().st_mode & 0o777 == 0o600
    key_id, _, key = first["ENCRYPTION_KEYS"].partition(":")
    assert key_id.isalnum()
    assert len(base64.b64decode(key, validate=True)) == 32
    assert first["ADMIN_API_KEY"].startswith("sk_live_")


def test_two_installations_share_no_secret(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    runtime.prepare(folder)
    runtime.prepare(other)
    try:
        mine, theirs = runtime.environment(folder), runtime.environment(other)
        assert not set(mine.values()) & set(theirs.values())
    finally:
        shutil.rmtree(runtime.socket_dir(other))


def test_lost_secrets_of_a_database_are_not_replaced(folder: Path) -> None:
    runtime.prepare(folder)
    (folder / "postgres").mkdir()
    (folder / "secrets.env").unlink()
    with pytest.raises(ImproperlyConfigured, match=r"secrets\.env is missing.*make reset"):
        runtime.prepare(folder)
    assert not (folder / "secrets.env").exists()


def test_reading_creates_nothing(folder: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="make run"):
        runtime.environment(folder)
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "SECRET_KEY=\n", "\0\0", "SECRET_KEY=x\nJWT_SECRET=y\n"])
def test_a_damaged_secrets_file_is_named(folder: Path, text: str) -> None:
    runtime.prepare(folder)
    (folder / "secrets.env").write_text(text)
    with pytest.raises(ImproperlyConfigured, match=r"secrets\.env lacks .*ENCRYPTION_KEYS"):
        runtime.environment(folder)


def test_a_real_variable_wins_and_an_empty_one_does_not(folder: Path) -> None:
    runtime.prepare(folder)
    merged = runtime.overlay({"SECRET_KEY": "mine", "JWT_SECRET": "", "OTHER": "kept"}, folder)
    assert merged["SECRET_KEY"] == "mine"
    assert merged["JWT_SECRET"] == runtime.environment(folder)["JWT_SECRET"]
    assert merged["OTHER"] == "kept"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"DATABASE_URL": ""}, True),
        ({"DATABASE_URL": "postgresql://h/d"}, False),
        ({"REDIS_URL": "redis://h"}, False),
        ({"DATABASE_URL_FILE": "/run/secrets/url"}, False),
    ],
)
def test_embedded_means_that_no_server_is_named(variables: dict[str, str], expected: bool) -> None:
    assert runtime.is_embedded(variables) is expected


def test_the_socket_folder_is_short_private_and_kept(folder: Path) -> None:
    runtime.prepare(folder)
    sockets = runtime.socket_dir(folder)
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert len(str(sockets / ".s.PGSQL.5432.lock")) < 100
    runtime.prepare(folder)
    assert runtime.socket_dir(folder) == sockets


def _remove(sockets: Path) -> None:
    sockets.rmdir()


def _open_to_all(sockets: Path) -> None:
    sockets.chmod(0o777)


def _replace_by_link(sockets: Path) -> None:
    elsewhere = sockets.with_name(f"{sockets.name}-elsewhere")
    sockets.rename(elsewhere)
    sockets.symlink_to(elsewhere)


@pytest.mark.parametrize("squat", [_remove, _open_to_all, _replace_by_link])
def test_a_socket_folder_that_others_could_fill_is_not_used(folder: Path, squat: object) -> None:
    runtime.prepare(folder)
    before = runtime.socket_dir(folder)
    assert callable(squat)
    squat(before)
    try:
        with pytest.raises(ImproperlyConfigured, match="gone or not private"):
            runtime.environment(folder)
        runtime.prepare(folder)
        assert runtime.socket_dir(folder) != before
    finally:
        if before.is_symlink():
            before.unlink()
        for left in (before, before.with_name(f"{before.name}-elsewhere")):
            shutil.rmtree(left, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_or_socket_folder_of_somebody_else_is_refused(folder: Path) -> None:
    runtime.prepare(folder)
    sockets = runtime.socket_dir(folder)
    os.chown(sockets, 65534, 65534)
    with pytest.raises(ImproperlyConfigured, match="not private"):
        runtime.socket_dir(folder)
    os.chown(folder, 65534, 65534)
    with pytest.raises(ImproperlyConfigured, match="belongs to user id 65534"):
        runtime.prepare(folder)
    shutil.rmtree(sockets)


def test_django_environ_understands_the_addresses(folder: Path) -> None:
    runtime.prepare(folder)
    config = environ.Env.db_url_config(runtime.environment(folder)["DATABASE_URL"])
    assert (config["NAME"], config["USER"]) == (runtime.DATABASE, runtime.APP_ROLE)
    assert config["OPTIONS"] == {"host": str(runtime.socket_dir(folder)), "port": runtime.POSTGRES_PORT}


def test_celery_spells_a_socket_its_own_way() -> None:
    assert runtime.celery_url("unix:///tmp/x/valkey.sock") == "redis+socket:///tmp/x/valkey.sock"
    assert runtime.celery_url("rediss://host:6380/1") == "rediss://host:6380/1"


def test_commands_follow_the_port_of_the_last_up(tmp_path: Path) -> None:
    runtime.prepare(tmp_path)
    assert "PORT" not in runtime.environment(tmp_path)
    runtime.record_port(tmp_path, 8100)
    assert runtime.overlay({"PORT": ""}, tmp_path)["PORT"] == "8100"
    assert runtime.overlay({"PORT": "9000"}, tmp_path)["PORT"] == "9000"
