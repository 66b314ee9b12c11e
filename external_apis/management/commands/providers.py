"""``manage.py providers``: the catalogue in a shell (list, show, add), and what a slug means (resolve)."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count, Q
from rich.console import Console
from rich.table import Table

from external_apis import catalogue, request_context
from external_apis.adoption import Wishes, adopt, discovered_preset, find_preset
from external_apis.callbacks import callback_url
from external_apis.errors import ApiManagerError
from external_apis.models import CatalogueEntry, Category, Environment, ExternalApi, Tenant
from external_apis.providers import config_with_facts, explain, live

_COLUMNS = ("slug", "name", "category", "authentication", "base URL", "providers")


class Command(BaseCommand):
    help = "Look through the catalogue, make providers of it, and explain what a slug means; no secret is shown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        listing = commands.add_parser("list", help="list the catalogue")
        listing.add_argument("--category", choices=Category.values)
        listing.add_argument("--search", metavar="TEXT", default="", help="a part of the slug, the name or the vendor")
        listing.add_argument("--json", action="store_true", help="print a JSON list")
        show = commands.add_parser("show", help="show a definition, and the stored providers of its slug, as JSON")
        show.add_argument("slug", help="a slug, or a provider's id")
        _add_arguments_of_add(commands.add_parser("add", help="make a provider of a definition"))
        resolve = commands.add_parser("resolve", help="explain the choice of a provider for a slug")
        resolve.add_argument("slug")
        resolve.add_argument("--environment", choices=Environment.values)
        resolve.add_argument("--tenant", help="the tenant that calls, by id")
        resolve.add_argument("--partner", help="the partner that calls, by id")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, options["command"])(options)
        except ApiManagerError as error:
            raise CommandError(error.message) from None

    def list(self, options: dict[str, Any]) -> None:
        """Print a table for a reader, tab-separated lines into a pipe, or JSON."""
        entries = CatalogueEntry.objects.order_by("category", "slug")
        if options["category"]:
            entries = entries.filter(category=options["category"])
        if text := options["search"]:
            entries = entries.filter(Q(slug__icontains=text) | Q(name__icontains=text) | Q(provider__icontains=text))
        rows = live().order_by()
        stored = dict(rows.values_list("slug").annotate(Count("pk")))
        lines = [
            (
                entry.slug,
                entry.name,
                entry.category,
                str(entry.api_config.get("auth_type", "")),
                str(entry.api_config.get("base_url", "")),
                stored.get(entry.slug, 0),
            )
            for entry in entries
        ]
        if options["json"]:
            names = [name.lower().replace(" ", "_") for name in _COLUMNS]
            self.stdout.write(json.dumps([dict(zip(names, line, strict=True)) for line in lines], indent=2))
        elif self.stdout.isatty():
            table = Table(*_COLUMNS, caption=f"{len(lines)} definitions")
            for line in lines:
                table.add_row(*map(str, line))
            console = Console()
            with console.capture() as drawn:
                console.print(table)
            self.stdout.write(drawn.get())
        else:
            for line in lines:
                self.stdout.write("\t".join(map(str, line)))

    def show(self, options: dict[str, Any]) -> None:
        """Print the definition of a slug and every live provider that has it; of secrets the facts alone."""
        slug = options["slug"]
        preset = catalogue.find(slug)
        stored = live().filter(Q(slug=slug) | Q(pk=slug)).select_related("tenant").order_by("pk")
        providers = [_facts(api) for api in stored]
        if preset is None and not providers:
            raise CommandError(f"Neither the catalogue nor the stored providers have {slug}.")
        found: dict[str, Any] = {"providers": providers}
        if preset is not None:
            names = ("slug", "name", "category", "provider", "docs_url", "api_config")
            found = {"definition": {name: getattr(preset, name) for name in names}, **found}
        self.stdout.write(json.dumps(found, indent=2))

    def add(self, options: dict[str, Any]) -> None:
        """Store a provider; what it needs of a client's secret never stands among the arguments."""
        if options["discover"]:
            preset = discovered_preset(options["discover"], options["slug"] or "")
        elif options["slug"]:
            preset = find_preset(options["slug"])
        else:
            raise CommandError("Name a definition of the catalogue, or --discover an issuer.")
        wishes = Wishes(
            slug=options["as"] or "",
            name=options["name"] or "",
            environment=options["environment"],
            is_sandbox=options["sandbox"],
            tenant_id=_tenant_id(options["tenant"]),
            client_id=options["client_id"] or "",
            client_secret=_client_secret(options),
            changes=dict(options["set"] or ()),
        )
        with request_context.acting("command:providers add"):
            api = adopt(preset, wishes)
        self.stdout.write(api.pk)
        if url := callback_url(api):
            self.stdout.write(f"Register this callback URL at the provider: {url}")

    def resolve(self, options: dict[str, Any]) -> None:
        found = explain(options["slug"], options["environment"], options["tenant"], options["partner"])
        for step in found.steps:
            sandbox = ", sandbox" if step.is_sandbox else ""
            mark = "->" if step.is_chosen else "  "
            self.stdout.write(f"{mark} {step.api_id} ({step.level}, {step.environment}{sandbox}): {step.reason}")
        if found.chosen is None:
            raise CommandError(f"External API {options['slug']}: {found.problem}")


def _add_arguments_of_add(add: ArgumentParser) -> None:
    add.add_argument("slug", nargs="?", help="a slug of the catalogue; with --discover, the new provider's own")
    add.add_argument("--discover", metavar="URL", help="an issuer that publishes OpenID or OAuth (RFC 8414) metadata")
    add.add_argument("--as", metavar="SLUG", help="another slug for the provider than the definition's")
    add.add_argument("--name")
    add.add_argument("--environment", choices=Environment.values, default=Environment.PRODUCTION)
    add.add_argument("--sandbox", action="store_true", help="a sandbox of the provider")
    add.add_argument("--tenant", metavar="SLUG", help="the tenant that it belongs to, by slug or id")
    add.add_argument("--client-id", help="the id (OAuth 1.0: consumer key) of the client registered at the provider")
    secret = add.add_mutually_exclusive_group()
    secret.add_argument("--client-secret-file", metavar="FILE", type=Path, help="a file that holds the client's secret")
    secret.add_argument("--client-secret-stdin", action="store_true", help="read the client's secret from stdin")
    add.add_argument(
        "--set",
        action="append",
        type=_change,
        metavar="PATH=VALUE",
        help='change the configuration: base_url=https://…, oauth2.scopes=["read"]; a value is JSON, or else a text',
    )


def _change(text: str) -> tuple[str, Any]:
    path, sign, value = text.partition("=")
    if not sign or not all(path.split(".")):
        raise ArgumentTypeError("is not PATH=VALUE")  # never the text, which may hold a secret by mistake
    try:
        return path, json.loads(value)
    except (ValueError, RecursionError):
        return path, value


def _client_secret(options: dict[str, Any]) -> str:
    """From a file, standard input, or somebody at the terminal who gave a client id."""
    if path := options["client_secret_file"]:
        try:
            return str(path.read_text("utf-8")).rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise CommandError(f"{path} cannot be read.") from None
    if options["client_secret_stdin"]:
        return sys.stdin.readline().rstrip("\r\n")
    if options["client_id"] and sys.stdin.isatty():
        return getpass("Client secret (none: Enter): ")
    return ""


def _tenant_id(reference: str | None) -> str | None:
    if reference is None:
        return None
    tenant = Tenant.objects.filter(Q(slug=reference) | Q(pk=reference)).first()
    if tenant is None:
        raise CommandError(f"Tenant {reference} not found")
    return str(tenant.pk)


def _facts(api: ExternalApi) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": api.pk,
        "slug": api.slug,
        "name": api.name,
        "status": api.status,
        "environment": api.environment,
        "is_sandbox": api.is_sandbox,
        "tenant": api.tenant.slug if api.tenant else None,
        "api_config": config_with_facts(api),
    }
    if url := callback_url(api):
        facts["callback_url"] = url
    return facts
