"""``manage.py exec --env STRIPE_KEY=stripe/default -- CMD``: run a command with connections' values."""

from __future__ import annotations

from argparse import REMAINDER, ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connections.handover import hand_over
from connections.remote.environment import Departure, collect, read_wanted
from external_apis import request_context
from external_apis.errors import ApiManagerError, NotFound
from external_apis.models import Environment, Tenant
from external_apis.tenancy import Scope

# The command is given values of connections, and not what opens all the others.
_OWN_SECRETS = (
    "ADMIN_API_KEY",
    "ADMIN_PASSWORD",
    "BACKUP_KEYS_FILE",
    "BACKUP_PASSPHRASE",
    "DATABASE_URL",
    "EAM_KEY",
    "EMAIL_URL",
    "ENCRYPTION_KEYS",
    "JWT_SECRET",
    "METRICS_TOKEN",
    "MIGRATE_DATABASE_URL",
    "OIDC_CLIENT_SECRET",
    "REDIS_URL",
    "SECRET_KEY",
)
_WITHHELD = (*_OWN_SECRETS, *(f"{name}_FILE" for name in _OWN_SECRETS), "DJANGO_SETTINGS_MODULE")


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

                variables = collect(read_wanted(options["env"], options["connection"]), read)
            except ApiManagerError as error:
                raise CommandError(error.message) from None
        raise Departure(command, variables, _WITHHELD)


def _find_tenant(reference: str | None) -> str | None:
    if reference is None:
        return None
    found = Tenant.objects.filter(pk=reference).first() or Tenant.objects.filter(slug=reference).first()
    if found is None:
        raise NotFound(f"Tenant {reference!a} not found")
    return str(found.pk)
