"""A folder for the spool that cannot be used is named before and while it matters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from config import runtime
from connections.oauth import spool_folder
from external_apis import health, valkey
from tests.grants import make_granted, secrets_of
from tests.token_server import token_server


@pytest.fixture(autouse=True)
def _no_failure_of_another_test() -> Iterator[None]:
    valkey.client().delete(spool_folder._FAILED)
    yield
    valkey.client().delete(spool_folder._FAILED)


def below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "spool"


def of_everybody(folder: Path) -> Path:
    made = folder / "spool"
    made.mkdir()
    made.chmod(0o755)
    return made


UNUSABLE = [below_a_file, of_everybody]


@pytest.mark.parametrize("make", UNUSABLE)
def test_check_names_it(make: Any, settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.SPOOL_DIR = str(make(tmp_path))
    call_command("check")
    told = capsys.readouterr().err
    assert "connections.W001" in told
    assert settings.SPOOL_DIR in told
    assert spool_folder.look() != health.OK
    assert settings.SPOOL_DIR not in spool_folder.look(), "the health answer is public"


def test_a_folder_that_is_not_there_yet_is_made_at_the_start(settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_DIR = str(tmp_path / "a" / "spool")
    assert spool_folder.check_folder() == []
    assert not Path(settings.SPOOL_DIR).exists(), "a check changes nothing"
    assert spool_folder.prepare() == ""
    assert list(Path(settings.SPOOL_DIR).iterdir()) == []
    settings.SPOOL_DIR = ""
    assert (spool_folder.prepare(), spool_folder.look()) == ("", health.OK)


@pytest.mark.parametrize(
    "command",
    [
        ("-c", "import config.wsgi"),
        ("-m", "celery", "--quiet", "-A", "config", "worker", "--concurrency", "1", "--pool", "solo"),
    ],
)
def test_web_and_worker_do_not_start_without(command: tuple[str, ...], settings: Any, tmp_path: Path) -> None:
    environ = {**os.environ, **runtime.environment(Path(settings.VAR_DIR)), "SPOOL_DIR": str(below_a_file(tmp_path))}
    ended = subprocess.run(
        [sys.executable, *command], cwd=runtime.CHECKOUT, env=environ, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert environ["SPOOL_DIR"] in (ended.stderr + ended.stdout).decode()


@pytest.mark.django_db(transaction=True)
def test_a_failure_later_shows_in_the_health(settings: Any, tmp_path: Path) -> None:
    """The new tokens go straight into the database; that they were not safe meanwhile is told to whoever looks."""
    from connections.services import refresh_token

    settings.EGRESS_ALLOW, settings.SPOOL_DIR = ["127.0.0.1"], str(below_a_file(tmp_path))
    with token_server() as server:
        row = make_granted(server)
        before = secrets_of(row)["refresh_token"]
        refresh_token(row.pk)
    assert secrets_of(row)["refresh_token"] != before
    settings.SPOOL_DIR = str(tmp_path / "spool")
    (found,) = [check for check in health.check_upkeep() if check.name == "spool"]
    assert "could not be written" in found.status
