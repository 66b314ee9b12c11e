"""``manage.py connections list`` and ``show``: what is stored, without a secret."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connections import lookup
from connections.models import ExternalApiConnection
from external_apis.errors import ApiManagerError
from external_apis.management.tables import print_table

_COLUMNS = ("reference", "status", "environment", "tenant", "id")


class Command(BaseCommand):
    help = "List the connections, or show one: everything but its secrets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        listing = commands.add_parser("list", help="list live connections, newest first")
        listing.add_argument("--provider", metavar="SLUG", help="only those of this provider")
        listing.add_argument("--limit", type=int, default=100)
        show = commands.add_parser("show", help="show one connection as JSON")
        show.add_argument("connection", help="provider/connection, a provider's slug, or a connection's id")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["command"] == "list":
            self.list(options["provider"], options["limit"])
        else:
            self.show(options["connection"])

    def list(self, provider: str | None, limit: int) -> None:
        """Print a line for each."""
        rows = lookup.live().select_related("external_api", "tenant").order_by("-pk")
        if provider is not None:
            rows = rows.filter(external_api__slug=provider)
        lines = [_line(row) for row in rows[: max(limit, 0)]]
        print_table(self.stdout, _COLUMNS, lines)

    def show(self, reference: str) -> None:
        """Print the facts of one connection; of its credentials the names and fingerprints."""
        try:
            row = lookup.find_by_reference(reference)
            credentials = row.credential.secret_facts()
        except ApiManagerError as error:
            raise CommandError(error.message) from None
        facts = {
            "id": row.pk,
            "reference": f"{row.external_api.slug}/{row.slug}",
            "connection_name": row.connection_name,
            "status": row.status,
            "auth_type": row.external_api.auth_type,
            "base_url": row.external_api.api_config.get("base_url"),
            "environment": row.external_api.environment,
            "credentials": credentials,
            "provider_data": row.provider_data,
            "calls_count": row.calls_count,
            "errors_count": row.errors_count,
            "last_used_at": row.last_used_at and row.last_used_at.isoformat(),
        }
        self.stdout.write(json.dumps(facts, indent=2))


def _line(row: ExternalApiConnection) -> tuple[str, ...]:
    tenant = row.tenant.slug if row.tenant else "-"
    return f"{row.external_api.slug}/{row.slug}", row.status, row.external_api.environment, tenant, row.pk
