"""``manage.py providers resolve stripe``: which provider row a slug means for whom, and why."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from external_apis.models import Environment
from external_apis.providers import explain


class Command(BaseCommand):
    help = "Explain, step by step, which provider a slug means; no secret is shown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        resolve = commands.add_parser("resolve", help="explain the choice of a provider for a slug")
        resolve.add_argument("slug")
        resolve.add_argument("--environment", choices=Environment.values)
        resolve.add_argument("--tenant", help="the tenant that calls, by id")
        resolve.add_argument("--partner", help="the partner that calls, by id")

    def handle(self, *args: Any, **options: Any) -> None:
        found = explain(options["slug"], options["environment"], options["tenant"], options["partner"])
        for step in found.steps:
            sandbox = ", sandbox" if step.is_sandbox else ""
            mark = "->" if step.is_chosen else "  "
            self.stdout.write(f"{mark} {step.api_id} ({step.level}, {step.environment}{sandbox}): {step.reason}")
        if found.chosen is None:
            raise CommandError(f"External API {options['slug']}: {found.problem}")
