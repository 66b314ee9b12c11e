"""``manage.py seed_providers``: put the shipped provider definitions into the catalogue."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from external_apis import request_context
from external_apis.catalogue import seed, shipped


class Command(BaseCommand):
    help = "Put the ready provider definitions that ship with the product into the catalogue; repeat it at will."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        with request_context.acting("command:seed_providers"):
            result = seed()
        counts = Counter(preset.category for preset in shipped().values())
        summary = f"{result.created} created, {result.updated} updated, {result.unchanged} unchanged"
        if options["json"]:
            self.stdout.write(json.dumps({**asdict(result), "by_category": counts}))
        elif self.stdout.isatty():
            table = Table("category", "definitions", caption=summary)
            for category, count in counts.items():
                table.add_row(category, str(count))
            console = Console()
            with console.capture() as drawn:
                console.print(table)
            self.stdout.write(drawn.get())
        else:
            for category, count in counts.items():
                self.stdout.write(f"{category}\t{count}")
            self.stdout.write(summary)
