"""``manage.py exec --env STRIPE_KEY=stripe/default -- CMD``: run a command with connections' values."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from connections.handover import hand_over
from connections.remote.environment import Departure, collect, is_departure_awaited, read_wanted
from external_apis import request_context
from external_apis.errors import ApiManagerError, NotFound
from external_apis.models import Environment, Tenant
from external_apis.tenancy import Scope

# What other code of this process reads: the tracing SDK, libpq, the backups, and the remote client.
_READ_ELSEWHERE = (
    "BACKUP_PASSPHRASE",
    "EAM_KEY",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "PGPASSWORD",
)


def withheld_names() -> frozenset[str]:
    """Return the variables that the command does not get: it is given values, and not what opens all the others."""
    names = {*_READ_ELSEWHERE, *settings.SECRET_VARIABLES}
    return frozenset((*names, *(f"{name}_FILE" for name in names), "BACKUP_KEYS_FILE", "DJANGO_SETTINGS_MODULE"))


class Command(BaseCommand):
    help = "Run a command in this process's place, with values of connections as environment variables."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--env",
            action="append",
            default=[],
            metavar="NAME=REFERENCE[:CREDENTIAL]",
            help="one value; repeat it at will",
        )
        parser.add_argument(
            "--connection",
            action="append",
            default=[],
            metavar="REFERENCE",
            help="all values, as PROVIDER_CREDENTIAL or PROVIDER_SLUG_CREDENTIAL",
        )
        parser.add_argument("--environment", choices=Environment.values)
        parser.add_argument("--tenant", help="whose connections, by id or slug; those of the whole installation")
        parser.add_argument("command", nargs=REMAINDER, metavar="-- CMD", help="the command and its arguments")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """From the command line: refuse as the remote twin does, and depart where nobody else has to clear up."""
        if not self._called_from_command_line:  # type: ignore[attr-defined]
            return super().execute(*args, **options)
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            self.stderr.write(str(error))
            sys.exit(2)
        except Departure as departure:
            if is_departure_awaited():
                raise
            departure.become()

    def handle(self, *args: Any, **options: Any) -> None:
        command = [*options["command"]]
        if command[:1] == ["--"]:
            del command[0]
        if not command:
            raise CommandError("The command is missing: -- CMD …")
        with request_context.acting("command:exec"):
            try:
                scope = Scope(_find_tenant(options["tenant"]))

                def read(reference: str) -> tuple[str, Mapping[str, Any]]:
                    given = hand_over(reference, scope, min_valid_seconds=60, environment=options["environment"])
                    return given.name, given.values

                variables = collect(read_wanted(options["env"], options["connection"]), read, withheld_names())
            except ApiManagerError as error:
                raise CommandError(error.message) from None
        raise Departure(command, variables, withheld_names())


def _find_tenant(reference: str | None) -> str | None:
    if reference is None:
        return None
    found = Tenant.objects.filter(pk=reference).first() or Tenant.objects.filter(slug=reference).first()
    if found is None:
        raise NotFound(f"Tenant {reference!a} not found")
    return str(found.pk)
