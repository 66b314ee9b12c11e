"""What every import command does: exit codes, JSON alone on stdout, a clean stop, and an undo."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

import manage
from connections.imports import runs
from connections.imports.commands import ImportCommand, Outcome, UsageError, given_url
from connections.imports.runs import Imported
from connections.models import ExternalApiConnection, ImportKind, ImportRun, ImportState
from external_apis.errors import InvalidInput
from tests.factories import make_connection

pytestmark = pytest.mark.django_db


class Command(ImportCommand):
    """Makes a connection for each letter."""

    kind = ImportKind.SOCIAL_PLATFORMS
    facts: Mapping[str, Any] = {"more": "facts"}
    lines: Sequence[str] = ["a line"]
    before_each: Callable[[str], None] = staticmethod(lambda letter: None)

    def add_source_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--letters", default="ab")

    def check_options(self, options: Mapping[str, Any]) -> None:
        if not options["letters"]:
            raise UsageError("There are no letters.")

    def import_all(self, options: Mapping[str, Any]) -> Outcome:
        if not self.is_applied:
            return Outcome({"created": len(options["letters"])}, None, self.facts, self.lines)
        run, letters = runs.begin(self.kind, "letters", tenant=self.tenant), options["letters"]
        with runs.underway(run, self.stop), self.meter("letters", len(letters)) as meter:
            for letter in letters[int(run.position.get("done", 0)) :]:
                self.before_each(letter)
                with transaction.atomic():
                    row = make_connection(connection_name=letter)
                    counts = {"failed": 1} if letter == "x" else {"created": 1}
                    position = {"done": run.position.get("done", 0) + 1}
                    runs.record(run, [Imported(letter, row, row.credential)], counts, position)
                meter.advance(1)
                if self.stop:
                    break
        self.warn("a warning")
        return Outcome(run.counts, run, self.facts, self.lines)


def run(*arguments: str, command: Command | None = None, out: io.StringIO | None = None) -> tuple[str, str]:
    out, err = out or io.StringIO(), io.StringIO()
    call_command(command or Command(), *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_text_for_people() -> None:
    out, err = run("--apply")
    made = ImportRun.objects.get()
    assert out.splitlines()[:2] == ["a line", "2 created"]
    assert made.pk in out.splitlines()[2]
    assert err == "a warning\n"
    assert run()[0] == "a line\n2 created\nNothing was changed. Import with --apply.\n"


def test_one_object_for_machines(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = run("--apply", "--json")
    made = ImportRun.objects.get()
    assert json.loads(out) == {
        "run": made.pk,
        "applied": True,
        "stopped": False,
        "counts": {"created": 2},
        "more": "facts",
    }
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--undo", "imp_none"), "There is no import"), (("--letters", ""), "no letters"), (("--tenant", "x"), "Tenant")],
)
def test_machines_are_told_of_errors_too(arguments: tuple[str, ...], message: str) -> None:
    out = io.StringIO()
    with pytest.raises(CommandError):
        run("--json", *arguments, out=out)
    assert message in json.loads(out.getvalue())["error"]


class Full(io.StringIO):
    """A disk that is."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("arguments", [("--apply",), ("--apply", "--json")])
def test_what_cannot_be_printed_is_no_reason_for_a_traceback(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="No space left on device") as raised:
        run(*arguments, out=Full())
    assert raised.value.returncode == 1
    assert ImportRun.objects.get().state == ImportState.FINISHED


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_terminal_that_knows_ascii_alone_is_written_to_all_the_same(arguments: tuple[str, ...]) -> None:
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="ascii")
    command = Command()
    command.facts = {"more": "…😀"}
    command.lines = ["…😀"]
    call_command(command, *arguments, stdout=out)
    out.flush()
    assert (json.loads(written.getvalue())["more"] == "…😀") if arguments else (b"\\u2026" in written.getvalue())


def test_the_first_ctrl_c_says_that_it_waits(capfd: pytest.CaptureFixture[str]) -> None:
    command = Command()
    command.before_each = lambda letter: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(SystemExit):
        run("--apply", command=command)
    assert "Stopping behind this batch; Ctrl-C again breaks off at once." in capfd.readouterr().err.splitlines()


def test_ctrl_c_before_a_command_has_begun_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manage, "execute_from_command_line", press)
    with pytest.raises(SystemExit) as raised:
        manage.main(["manage.py", "check"])
    assert (raised.value.code, capsys.readouterr().err) == (130, "Broken off.\n")


def test_failed_rows_are_told_by_the_exit_code() -> None:
    out = io.StringIO()
    with pytest.raises(CommandError) as raised:
        run("--apply", "--json", "--letters", "axb", out=out)
    assert raised.value.returncode == 1
    assert json.loads(out.getvalue())["counts"] == {"created": 2, "failed": 1}
    assert ImportRun.objects.get().state == ImportState.FINISHED


def test_wrong_usage_has_a_code_of_its_own() -> None:
    for arguments in (("--letters", ""), ("--tenant", "nobody"), ("--tenant", "a\0b"), ("--apply", "--undo", "imp_1")):
        with pytest.raises(CommandError) as raised:
            run(*arguments)
        assert raised.value.returncode == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_behind_the_batch_and_is_gone_on_with(number: int, code: int) -> None:
    command = Command()
    command.before_each = lambda letter: os.kill(os.getpid(), number) if letter == "b" else None
    out = io.StringIO()
    with pytest.raises(SystemExit) as raised:
        run("--apply", "--letters", "abcd", command=command, out=out)
    assert raised.value.code == code
    stopped = ImportRun.objects.get()
    assert (stopped.state, stopped.counts) == (ImportState.INTERRUPTED, {"created": 2})
    assert "the same command goes on" in out.getvalue()
    run("--apply", "--letters", "abcd")
    finished = ImportRun.objects.get()
    assert (finished.state, finished.counts) == (ImportState.FINISHED, {"created": 4})
    assert [row.source_key for row in finished.rows.order_by("id")] == list("abcd")


def test_an_impatient_second_ctrl_c_leaves_what_was_stored() -> None:
    def press_twice(letter: str) -> None:
        if letter == "b":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    command = Command()
    command.before_each = press_twice
    with pytest.raises(SystemExit) as raised:
        run("--apply", command=command)
    assert raised.value.code == 130
    stopped = ImportRun.objects.get()
    assert (stopped.state, stopped.counts) == (ImportState.INTERRUPTED, {"created": 1})


def test_an_error_breaks_off_with_its_reason_alone() -> None:
    def fail(letter: str) -> None:
        raise InvalidInput("The source is broken.")

    command = Command()
    command.before_each = fail
    with pytest.raises(CommandError, match=r"^The source is broken\.$") as raised:
        run("--apply", command=command)
    assert raised.value.returncode == 1
    assert ImportRun.objects.get().state == ImportState.FAILED


def test_an_undo_says_what_it_left_and_why() -> None:
    run("--apply")
    made = ImportRun.objects.get()
    kept = made.rows.get(source_key="a").object_id
    ExternalApiConnection.objects.filter(pk=kept).update(calls_count=3)
    out, _ = run("--undo", made.pk)
    assert out.splitlines() == ["1 removed, 1 left.", f"Left: {kept} (of a): was used since."]
    again = json.loads(run("--undo", made.pk, "--json")[0])
    assert again["left"] == [
        {"object_type": "externalapiconnection", "object_id": kept, "source_key": "a", "reason": "was used since"}
    ]


def test_an_unforeseen_error_is_one_object_too() -> None:
    command, out = Command(), io.StringIO()

    def fail(letter: str) -> None:
        raise TypeError(f"with a secret and {letter}")

    command.before_each = fail
    with pytest.raises(TypeError):
        run("--apply", "--json", command=command, out=out)
    told = json.loads(out.getvalue())
    assert told["error"] == "An unforeseen TypeError; stderr has the traceback."


def test_a_closed_stdin_gives_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        given_url("@-")
