"""Emptying an installation: asked first, refused while it runs, and only what is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config import runtime

if TYPE_CHECKING:
    from tests.config.conftest import Installation


def _answer(installation: Installation, text: str, *options: str) -> tuple[int, str]:
    process = installation.start("-m", "config.reset", *options)
    output, _ = process.communicate(text, timeout=30)
    return process.returncode, output


def test_only_yes_deletes_and_strangers_files_stay(installation: Installation) -> None:
    runtime.prepare(installation.folder)
    sockets = runtime.socket_dir(installation.folder)
    (installation.folder / "notes.txt").write_text("mine")
    (installation.folder / "first-login.env").write_text("x")
    (installation.folder / "postgres").mkdir()
    for refusal in ("", "\n", "no\n", "y\n"):
        status, output = _answer(installation, refusal)
        assert status
        assert "Nothing was deleted." in output
    assert (installation.folder / "secrets.env").exists()
    status, output = _answer(installation, "yes\n")
    assert status == 0, output
    left = {path.name for path in installation.folder.iterdir()}
    assert left == {"notes.txt", "lock", "prepare.lock"}
    assert not sockets.exists()


def test_lost_secrets_do_not_keep_one_from_resetting(installation: Installation) -> None:
    runtime.prepare(installation.folder)
    (installation.folder / "postgres").mkdir()
    (installation.folder / "secrets.env").unlink()
    status, output = _answer(installation, "", "--force")
    assert status == 0, output
    assert runtime.prepare(installation.folder)


def test_a_running_installation_is_not_emptied(installation: Installation) -> None:
    owner = installation.serve()
    status, output = _answer(installation, "yes\n", "--force")
    assert status
    assert f"in use by process {owner.pid} (" in output
    assert (installation.folder / "postgres").exists()
