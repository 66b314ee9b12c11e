"""What the import commands have in common: a dry run unless ``--apply``, ``--undo``, ``--json``, exit codes."""

from __future__ import annotations

import json
import os
import sys
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from connections.imports import runs, stops
from connections.imports.masking import printable
from connections.imports.progress import Meter, shown
from connections.imports.stops import Stop
from connections.imports.undo import undo
from connections.models import ImportKind, ImportRun
from external_apis import request_context
from external_apis.errors import ApiManagerError
from external_apis.ids import can_name
from external_apis.models import Tenant

__all__ = ["ImportCommand", "Outcome", "UsageError", "given_url"]

_ORDER = ("created", "updated", "recognised", "skipped", "failed")
_LEFT_SHOWN = 20
_LONGEST_URL = 10_000
_BROKEN_OFF = "Broken off; the same command goes on."


class UsageError(CommandError):
    """The command was called wrongly: exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=2)


@dataclass(frozen=True)
class Outcome:
    """What an import came to. ``facts`` are more for ``--json``, ``lines`` more for people, before the summary."""

    counts: Mapping[str, int]
    run: ImportRun | None = None
    """None of a dry run."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()
    is_report: bool = False
    """Whether nothing was to be imported at all, and the lines are all there is to say."""


class ImportCommand(BaseCommand):
    """A command that imports. Exit codes: 0 done, 1 some rows failed or nothing could be done, 2 called wrongly, 130 at
    Ctrl-C and 143 at SIGTERM, when the run can be gone on with by the same command."""

    kind: ImportKind
    stop: Stop
    tenant: Tenant | None = None
    is_applied = False
    is_json = False
    _is_told = False
    _source_defaults: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def add_source_arguments(self, parser: CommandParser) -> None:
        """Add the options that name the source."""

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `UsageError` where the options do not fit together."""

    @abstractmethod
    def import_all(self, options: Mapping[str, Any]) -> Outcome:
        """Import, or with `is_applied` False only find out what an import would do.

        Ask `stop` between two batches. Raises the errors of the tree where nothing can be done.
        """

    def add_arguments(self, parser: CommandParser) -> None:
        sources = CommandParser(add_help=False)
        self.add_source_arguments(sources)
        self._source_defaults = vars(sources.parse_args([]))
        self.add_source_arguments(parser)
        parser.add_argument("--tenant", metavar="SLUG", help="the tenant to import for, by slug or id")
        parser.add_argument("--apply", action="store_true", help="import; without it, only show what would be done")
        parser.add_argument("--undo", metavar="RUN", help="remove what a run created and nobody has used or changed")
        parser.add_argument("--json", action="store_true", help="print one JSON object, and no progress")

    def handle(self, *args: Any, **options: Any) -> None:
        self.is_applied, self.is_json = options["apply"], options["json"]
        self._is_told = False
        # A terminal that does not know a character of a plan is shown its number.
        if (reconfigure := getattr(self.stdout, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
        name = type(self).__module__.rpartition(".")[2]
        with request_context.acting(f"command:{name}"), stops.watched() as self.stop:
            try:
                self._do(options)
            except ApiManagerError as error:
                self._tell_machines_of(error.message)
                raise CommandError(printable(error.message)) from None
            except CommandError as error:
                self._tell_machines_of(str(error))
                raise
            except KeyboardInterrupt:
                self._tell_machines_of(_BROKEN_OFF)
                self.warn(_BROKEN_OFF)
                sys.exit(130)
            except Exception as error:
                self._tell_machines_of(f"An unforeseen {type(error).__name__}; stderr has the traceback.")
                raise
            if self.stop:
                sys.exit(self.stop.exit_code)

    def _do(self, options: Mapping[str, Any]) -> None:
        self.tenant = _find_tenant(options["tenant"])
        if not options["undo"]:
            self.check_options(options)
            self._report(self.import_all(options))
            return
        if self.is_applied:
            raise UsageError("--undo and --apply do not go together.")
        for name, default in self._source_defaults.items():
            if options.get(name, default) != default:
                raise UsageError(f"--undo and --{name.replace('_', '-')} do not go together.")
        self._undo(options["undo"])

    def say(self, line: str) -> None:
        """Print a line for people; with ``--json`` nothing."""
        if not self.is_json:
            self._print([printable(line)])

    def warn(self, line: str) -> None:
        """Print a line to stderr, with ``--json`` as well."""
        self.stderr.write(printable(line))

    def _tell_machines(self, facts: Mapping[str, Any]) -> None:
        """Print the one object of ``--json``, in ASCII: whatever it quotes, no terminal obeys it."""
        self._is_told = True
        self._print([json.dumps(facts, indent=2, default=str)])

    def _tell_machines_of(self, problem: str) -> None:
        if self.is_json and not self._is_told:
            self._tell_machines({"run": None, "applied": self.is_applied, "error": problem})

    def _print(self, lines: Iterable[str]) -> None:
        try:
            for line in lines:
                self.stdout.write(line)
            self.stdout.flush()
        except OSError as error:
            with suppress(OSError, ValueError):  # or the interpreter's end tries once more, with a traceback
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
            raise CommandError(f"What was done cannot be printed: {error.strerror}.") from None

    def meter(self, what: str, total: int | None = None, *, already: int = 0) -> AbstractContextManager[Meter]:
        """Show progress on stderr while a block runs; see `progress.shown`."""
        return shown(sys.stderr, what, total, is_silent=self.is_json, already=already)

    def _report(self, outcome: Outcome) -> None:
        run_id = None if outcome.run is None else outcome.run.pk
        if self.is_json:
            facts = {"run": run_id, "applied": self.is_applied, "stopped": bool(self.stop), "counts": outcome.counts}
            self._tell_machines({**facts, **outcome.facts})
        else:
            end = [] if outcome.is_report else [_summary(outcome.counts), self._what_next(run_id)]
            self._print(printable(line) for line in (*outcome.lines, *end))
        if outcome.counts.get("failed") and not self.stop:
            raise CommandError(f"{outcome.counts['failed']:,} failed.", returncode=1)

    def _what_next(self, run_id: str | None) -> str:
        if self.stop:
            return f"Stopped; the same command goes on{f' with {run_id}' if run_id else ''}."
        if not self.is_applied:
            return "Nothing was changed. Import with --apply."
        return (
            f"Done in {run_id}; --undo {run_id} removes what nobody has used or changed since." if run_id else "Done."
        )

    def _undo(self, run_id: str) -> None:
        run = runs.find(run_id, self.kind)
        with self.meter("rows", run.rows.count()) as meter:
            undone = undo(run, stop=self.stop, on_batch=lambda gone, left: meter.advance(gone + left))
        if self.is_json:
            facts = {"run": run.pk, "stopped": bool(self.stop), "removed": undone.removed}
            self._tell_machines({**facts, "left": [asdict(one) for one in undone.left]})
            return
        self.say(f"{undone.removed:,} removed, {len(undone.left):,} left.")
        for one in undone.left[:_LEFT_SHOWN]:
            self.say(f"Left: {one.object_id} (of {one.source_key}): {one.reason}.")
        if len(undone.left) > _LEFT_SHOWN:
            self.say(f"… and {len(undone.left) - _LEFT_SHOWN:,} more, which --json lists.")


def given_url(given: str) -> str:
    """Return the URL that ``--database-url`` gives: itself, in a file as ``@FILE``, or on stdin's first line as ``@-``.

    Raises `UsageError`, which quotes nothing, where that cannot be read.
    """
    try:
        if given == "@-":
            if sys.stdin is None:
                raise UsageError("--database-url: stdin is closed.")
            return sys.stdin.readline(_LONGEST_URL).strip()
        if given.startswith("@"):
            with Path(given[1:]).open(encoding="utf-8") as file:
                return file.read(_LONGEST_URL).strip()
    except (OSError, ValueError):
        raise UsageError("--database-url: the file cannot be read.") from None
    return given


def _summary(counts: Mapping[str, int]) -> str:
    names = [name for name in (*_ORDER, *(name for name in counts if name not in _ORDER)) if name in counts]
    return ", ".join(f"{counts[name]:,} {name}" for name in names) or "Nothing was found."


def _find_tenant(reference: str | None) -> Tenant | None:
    if reference is None:
        return None
    rows = Tenant.objects.filter(Q(pk=reference) | Q(slug=reference)) if can_name(reference) else Tenant.objects.none()
    tenant = rows.first()
    if tenant is None:
        raise UsageError(f"Tenant {reference!a} not found")
    return tenant
