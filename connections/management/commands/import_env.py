"""``manage.py import_env --file .env --apply``: credentials out of environment variables into the database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from connections.imports import dotenv
from connections.imports.commands import ImportCommand, Outcome, UsageError
from connections.imports.environment.importing import import_variables
from connections.imports.environment.report import Known, report
from connections.imports.environment.steps import Step
from connections.imports.environment.variables import Findings, sort_out
from connections.models import ImportKind


class Command(ImportCommand):
    help = (
        "Find credentials in this process's environment or in a .env file, by the catalogue's names and by patterns, "
        "and make providers and connections of them. Shows a plan unless --apply; may be repeated at will."
    )
    kind = ImportKind.ENV

    def add_source_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--file", type=Path, metavar="FILE", help="read this .env file, and not the environment")
        parser.add_argument(
            "--overwrite", action="store_true", help="take the environment's value also where another one is stored"
        )
        parser.add_argument("--report", action="store_true", help="tell which variables are safe to delete")

    def check_options(self, options: Mapping[str, Any]) -> None:
        if options["report"] and (self.is_applied or options["overwrite"]):
            raise UsageError("--report changes nothing: leave out --apply and --overwrite.")

    def import_all(self, options: Mapping[str, Any]) -> Outcome:
        file = dotenv.read(options["file"]) if options["file"] else dotenv.DotEnv(dict(os.environ))
        findings = sort_out(file.values)
        problems = {"problems": list(file.problems), "unknown": findings.unknown, "skipped": dict(findings.skipped)}
        if options["report"]:
            known = report(findings, file.values, self.tenant)
            facts = {"variables": [asdict(one) for one in known]}
            return Outcome({}, facts=facts, lines=list(_report_lines(known)), is_report=True)
        result = import_variables(
            findings, self.tenant, is_applied=self.is_applied, overwrite=options["overwrite"], stop=self.stop
        )
        lines = [*_lines(result.steps), *_remarks(findings, file.problems)]
        return Outcome(result.counts, result.run, {"plan": [_facts(step) for step in result.steps]} | problems, lines)


def _lines(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        made = f" ({' and '.join(step.created)})" if step.created else ""
        yield f"{step.slug}: {step.outcome}{made}{f': {step.reason}' if step.reason else ''}"
        for one in step.changes:
            was = f", stored is {one.stored}" if one.stored else ""
            why = f": {one.reason}" if one.reason else ""
            yield f"    {one.variable} {one.given} -> {one.place} ({one.action}{was}{why})"


def _remarks(findings: Findings, problems: tuple[str, ...]) -> Iterator[str]:
    for name, reason in findings.skipped.items():
        yield f"{name}: skipped: {reason}"
    for name in findings.unknown:
        yield f"{name}: looks like a credential, but nothing in the catalogue has a place for it"
    for problem in problems:
        yield f"Of the file, {problem}."


def _report_lines(known: list[Known]) -> Iterator[str]:
    for one in known:
        last = one.last_answered_from_environment_at
        asked = f", last answered from the environment at {last:%Y-%m-%dT%H:%M:%SZ}" if last else ""
        verdict = "safe to delete" if one.is_safe_to_delete else f"keep: it {one.reason}"
        if not one.is_in_environment:
            verdict = "not in the environment" if one.is_safe_to_delete else f"not in the environment, and {one.reason}"
        yield f"{one.name}: {verdict} (from {one.source}{asked})"
    yield "Only get_env_secret is counted: code that reads os.environ itself is not seen."


def _facts(step: Step) -> dict[str, Any]:
    return {
        "slug": step.slug,
        "outcome": step.outcome,
        "created": step.created,
        "reason": step.reason,
        "variables": [asdict(one) for one in step.changes],
    }
