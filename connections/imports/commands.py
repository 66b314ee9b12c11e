"""What the import commands have in common: a dry run unless ``--apply``, ``--undo``, ``--json``, exit codes."""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from connections.imports import runs, stops
from connections.imports.progress import Meter, shown
from connections.imports.stops import Stop
from connections.imports.undo import undo
from connections.models import ImportKind, ImportRun
from external_apis import request_context
from external_apis.errors import ApiManagerError
from external_apis.ids import can_name
from external_apis.models import Tenant

__all__ = ["ImportCommand", "Outcome", "UsageError"]

_ORDER = ("created", "updated", "recognised", "skipped", "failed")
_LEFT_SHOWN = 20


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
        self.add_source_arguments(parser)
        parser.add_argument("--tenant", metavar="SLUG", help="the tenant to import for, by slug or id")
        parser.add_argument("--apply", action="store_true", help="import; without it, only show what would be done")
        parser.add_argument("--undo", metavar="RUN", help="remove what a run created and nobody has used or changed")
        parser.add_argument("--json", action="store_true", help="print one JSON object, and no progress")

    def handle(self, *args: Any, **options: Any) -> None:
        self.is_applied, self.is_json = options["apply"], options["json"]
        if options["undo"] and self.is_applied:
            raise UsageError("--undo and --apply do not go together.")
        name = type(self).__module__.rpartition(".")[2]
        with request_context.acting(f"command:{name}"), stops.watched() as self.stop:
            self.tenant = _find_tenant(options["tenant"])
            try:
                if options["undo"]:
                    self._undo(options["undo"])
                else:
                    self.check_options(options)
                    self._report(self.import_all(options))
            except ApiManagerError as error:
                raise CommandError(error.message) from None
            except KeyboardInterrupt:
                self.warn("Broken off; the same command goes on.")
                sys.exit(130)
            if self.stop:
                sys.exit(self.stop.exit_code)

    def say(self, line: str) -> None:
        """Print a line for people; with ``--json`` nothing."""
        if not self.is_json:
            self.stdout.write(line)

    def warn(self, line: str) -> None:
        """Print a line to stderr, with ``--json`` as well."""
        self.stderr.write(line)

    def meter(self, what: str, total: int | None = None, *, already: int = 0) -> AbstractContextManager[Meter]:
        """Show progress on stderr while a block runs; see `progress.shown`."""
        return shown(sys.stderr, what, total, is_silent=self.is_json, already=already)

    def _report(self, outcome: Outcome) -> None:
        run_id = None if outcome.run is None else outcome.run.pk
        if self.is_json:
            facts = {"run": run_id, "applied": self.is_applied, "stopped": bool(self.stop), "counts": outcome.counts}
            self.stdout.write(json.dumps({**facts, **outcome.facts}, indent=2, ensure_ascii=False, default=str))
        else:
            for line in outcome.lines:
                self.stdout.write(line)
            if not outcome.is_report:
                self.stdout.write(_summary(outcome.counts))
                self.stdout.write(self._what_next(run_id))
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
            self.stdout.write(json.dumps({**facts, "left": [asdict(one) for one in undone.left]}, indent=2))
            return
        self.stdout.write(f"{undone.removed:,} removed, {len(undone.left):,} left.")
        for one in undone.left[:_LEFT_SHOWN]:
            self.stdout.write(f"Left: {one.object_id} (of {one.source_key}): {one.reason}.")
        if len(undone.left) > _LEFT_SHOWN:
            self.stdout.write(f"… and {len(undone.left) - _LEFT_SHOWN:,} more, which --json lists.")


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
