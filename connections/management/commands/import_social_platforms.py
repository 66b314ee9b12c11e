"""``manage.py import_social_platforms``: the old tables of a Medusa shop into providers and connections."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from connections.imports import runs
from connections.imports.commands import ImportCommand, Outcome, UsageError, given_url
from connections.imports.social_platforms.encryption_keys import OldKeys
from connections.imports.social_platforms.failure_report import FailureReport
from connections.imports.social_platforms.importing import import_tables
from connections.imports.social_platforms.old_database import OldDatabase
from connections.imports.social_platforms.old_files import OldFiles
from connections.imports.social_platforms.owners import Owners
from connections.imports.social_platforms.sources import Source
from connections.imports.social_platforms.work import Work
from connections.models import ImportKind, ImportRun


class Command(ImportCommand):
    help = (
        "Import the tables social_platform and social_platform_account, from their database or from files in JSON or "
        "CSV. Without --apply it only tells what would become of each row."
    )
    kind = ImportKind.SOCIAL_PLATFORMS

    def add_source_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database-url",
            metavar="URL|@FILE|@-",
            help="the old PostgreSQL database, its URL in a file or on stdin: a command line is seen by everybody here",
        )
        parser.add_argument("--platforms", type=Path, metavar="FILE", help="social_platform as JSON or CSV")
        parser.add_argument("--accounts", type=Path, metavar="FILE", help="social_platform_account as JSON or CSV")
        parser.add_argument(
            "--encryption-key-file",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="keys of the old encryption service: its .env, or lines of version:base64; may be repeated",
        )
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="OLD=NEW",
            help="an old sales channel's, partner's or user's id, and the tenant, partner or user that it is here",
        )
        parser.add_argument(
            "--source-name",
            default="",
            metavar="NAME",
            help="where there are several old systems: what this one is called, always the same",
        )
        parser.add_argument("--report", type=Path, metavar="FILE", help="where the rows that fail are written")

    def check_options(self, options: Mapping[str, Any]) -> None:
        files = [options["platforms"], options["accounts"]]
        if bool(options["database_url"]) == any(files) or (any(files) and not all(files)):
            raise UsageError("Give either --database-url, or both --platforms and --accounts.")
        for pair in options["map"]:
            old, equals, new = pair.partition("=")
            if not (old and equals and new):
                raise UsageError(f"--map {pair!a} is not of the form OLD=NEW.")

    def import_all(self, options: Mapping[str, Any]) -> Outcome:
        keys = OldKeys.read(options["encryption_key_file"])
        source = _source(options)
        source.check()
        names = dict(pair.split("=", 1) for pair in options["map"])
        given = FailureReport(options["report"].absolute()) if options["report"] else None
        if given is not None:
            given.open()  # before there is a run, which would go on with a file that is none
        begin = runs.begin if self.is_applied else runs.preview
        identity = options["source_name"] or "social platforms"
        run = begin(self.kind, source.description, identity=identity, tenant=self.tenant)
        with (
            given or self._usual_report(run) as report,
            runs.underway(run, self.stop) if self.is_applied else nullcontext(),
        ):
            if self.is_applied and run.report_path != str(report.path):
                report.pass_over(Path(run.report_path))
                runs.set_report(run, str(report.path))
            work = Work(keys, Owners(self.tenant, names), run, report)
            summary = import_tables(source, work, partial(self.meter, "accounts"), lambda: bool(self.stop))
        stored = run if self.is_applied else None
        facts = {"source": source.description, **summary.facts()}
        return Outcome(summary.counts(), stored, facts, list(summary.lines()))

    def _usual_report(self, run: ImportRun) -> FailureReport:
        """The one that the run has, if it is still there, or one in the folder that somebody is in."""
        if os.path.isfile(run.report_path):  # noqa: PTH113 (a folder that nobody may enter is no error)
            report = FailureReport(Path(run.report_path))
            report.open()
            return report
        name = run.pk if self.is_applied else f"dry-run-{timezone.now():%Y%m%d-%H%M%S}"
        return FailureReport(Path(f"import-social-platforms-{name}.jsonl").absolute())


def _source(options: Mapping[str, Any]) -> Source:
    if options["database_url"]:
        return OldDatabase(given_url(options["database_url"]))
    return OldFiles(options["platforms"], options["accounts"])
