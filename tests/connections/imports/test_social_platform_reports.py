"""Where the rows that fail are written: any file, but none that stands in the way of the import."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from connections.imports.social_platforms.failure_report import FailureReport
from connections.models import ImportRun
from external_apis.errors import InvalidInput
from tests.connections.imports.social_platform_files import failed_rows, run, write

NO_TOKEN = {"id": "no-token"}


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("is_applied", [True, False])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("misspelt/failed.jsonl", "No such file or directory"),
        ("", "Is a directory"),
        ("a-pipe", "Not a regular file"),
        ("a-link", "Too many levels of symbolic links"),
        ("/dev/full", "Not a regular file"),
        ("/dev/zero", "Not a regular file"),
    ],
)
@pytest.mark.django_db
def test_a_report_that_cannot_be_written_is_noticed_before_there_is_a_run(
    tmp_path: Path, name: str, message: str, is_applied: bool
) -> None:
    os.mkfifo(tmp_path / "a-pipe")
    (tmp_path / "a-link").symlink_to(tmp_path / "else")
    options = write(tmp_path, NO_TOKEN)[:4]
    error = run(*options, "--report", tmp_path / name, *(["--apply"] if is_applied else []))["error"]
    assert message in error
    assert "\n" not in error
    assert not ImportRun.objects.exists()


@pytest.mark.django_db
def test_going_on_with_another_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = (*write(tmp_path, NO_TOKEN)[:4], "--apply")
    first, second = tmp_path / "first", tmp_path / os.fsdecode(b"\xff second")
    assert run(*options, "--report", first)["report"] == str(first)

    def break_off() -> None:
        ImportRun.objects.update(state="failed")

    break_off()
    assert run(*options)["report"] == str(first)
    write(tmp_path, NO_TOKEN, {"id": "new"})
    break_off()
    answer = run(*options, "--report", second)
    assert (ids(first), ids(second), answer["accounts"]["failed"]) == (["no-token"], ["new"], 1)
    assert ImportRun.objects.get().counts["failed"] == 2
    # The one that it has is gone, with its folder perhaps: nothing to end an import for.
    ImportRun.objects.update(state="failed", report_path=str(tmp_path / "gone" / "failed"))
    answer = run(*options)
    assert answer["report"] == str(tmp_path / f"import-social-platforms-{answer['run']}.jsonl")
    assert failed_rows(answer).keys() == {"no-token", "new"}


@pytest.mark.django_db
def test_nothing_is_said_of_a_report_without_rows(tmp_path: Path) -> None:
    answer = run(*write(tmp_path, {"id": "a", "access_token": "t"}), "--apply")
    assert answer["report"] is None
    assert (tmp_path / "report.jsonl").stat().st_size == 0


def test_a_file_of_anything_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "report"
    lines = ['{"table": [], "id": {}}', "[" * 50_000, "7", '{"table": "t", "id": "a"}', "\udcff", ""]
    path.write_text("\n".join(lines), errors="surrogateescape")
    os.truncate(path, 100_000_000)  # in one line, and not on the disk
    tracemalloc.start()
    try:
        with FailureReport(path) as report:
            assert [report.add("t", row_id, "reason", "message") for row_id in "ab"] == [False, True]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    with path.open("rb") as file:
        file.seek(100_000_000)
        assert file.read().startswith(b'\n{"table": "t", "id": "b"')


def test_a_disk_that_is_full_is_said_in_one_line(tmp_path: Path) -> None:
    report = FailureReport(tmp_path / "report")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, report.open().fileno())
    os.close(full)
    report.add("t", "a", "reason", "message")
    with pytest.raises(InvalidInput, match="No space left on device"):
        report.flush()
    with pytest.raises(InvalidInput, match="No space left on device"), report:
        pass
