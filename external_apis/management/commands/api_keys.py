"""``manage.py api_keys create``, ``list``, ``verify``, ``revoke`` and ``roll``."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from external_apis import keys, request_context
from external_apis.errors import ApiManagerError
from external_apis.management.tables import print_table
from external_apis.models import ApiKey, KeyMode, KeyType, Tenant

_COLUMNS = ("id", "title", "key", "type", "mode", "status", "tenant", "last used")


class Command(BaseCommand):
    help = "Make API keys, list, verify, revoke and roll them. A new key is the only thing on standard output."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        create = commands.add_parser("create", help="make a key and print it, this once")
        create.add_argument("title")
        create.add_argument("--type", choices=KeyType.values, default=KeyType.SECRET.value)
        create.add_argument("--mode", choices=KeyMode.values, default=KeyMode.LIVE.value)
        create.add_argument(
            "--scope", action="append", default=[], metavar="SCOPE", help="such as providers:read, or *"
        )
        create.add_argument("--tenant", metavar="SLUG", help="the tenant whose rows it sees; all of them without")
        create.add_argument("--service", default="", help="the service that uses it")
        create.add_argument("--network", action="append", default=[], metavar="CIDR", help="where it may be used from")
        create.add_argument("--rate-limit", type=int, metavar="N", help="requests an hour")
        create.add_argument("--expires-in", type=int, metavar="DAYS")
        listing = commands.add_parser("list", help="list keys, newest first, as they may be shown")
        listing.add_argument("--tenant", metavar="SLUG", help="only those of this tenant")
        listing.add_argument("--status", choices=[status.value for status in keys.KeyStatus])
        listing.add_argument("--limit", type=int, default=100)
        commands.add_parser("verify", help="read a key from standard input, and tell whose it is and whether it works")
        revoke = commands.add_parser("revoke", help="end a key and the tokens made from it")
        revoke.add_argument("id")
        revoke.add_argument("--in", dest="seconds", type=int, default=0, metavar="SECONDS", help="not at once")
        roll = commands.add_parser("roll", help="print a new key with the same rights, and end the old one")
        roll.add_argument("id")
        roll.add_argument("--overlap", type=int, default=0, metavar="SECONDS", help="how long the old one works yet")

    def handle(self, *args: Any, **options: Any) -> None:
        command = options["command"]
        with request_context.acting(f"command:api_keys {command}"):
            try:
                getattr(self, command)(options)
            except ApiManagerError as error:
                raise CommandError(error.message) from None

    def create(self, options: dict[str, Any]) -> None:
        """Print the token on standard output, and what it is on standard error."""
        days = options["expires_in"]
        body = {
            "title": options["title"],
            "type": options["type"],
            "mode": options["mode"],
            "scopes": options["scope"],
            "tenant_id": _tenant(options["tenant"]),
            "service": options["service"],
            "allowed_networks": options["network"],
            "rate_limit": options["rate_limit"],
            "expires_at": None if days is None else timezone.now() + timedelta(days=max(-1, min(days, 36_500))),
        }
        self._show_once(keys.create(body))

    def list(self, options: dict[str, Any]) -> None:
        """Print a line for each."""
        now, rows = timezone.now(), keys.visible().select_related("tenant")
        if options["tenant"]:
            rows = rows.filter(tenant_id=_tenant(options["tenant"]))
        if options["status"]:
            rows = keys.of_status(rows, keys.KeyStatus(options["status"]), now)
        lines = [_line(key, keys.status_of(key, now)) for key in rows[: max(options["limit"], 0)]]
        print_table(self.stdout, _COLUMNS, lines)

    def verify(self, options: dict[str, Any]) -> None:
        """Take the key from a prompt or a pipe: an argument would be seen by every user of the machine."""
        token = getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()
        outcome = keys.verify(token.strip())
        if outcome.key is not None:
            self.stdout.write("\t".join(_line(outcome.key, keys.status_of(outcome.key, timezone.now()))))
        if not outcome.is_valid:
            raise CommandError(outcome.problem)

    def revoke(self, options: dict[str, Any]) -> None:
        key = keys.revoke(keys.find(options["id"]), options["seconds"])
        self.stdout.write(f"{key.pk} ({key.redacted}) {_ends(key)}. {_remaining_use(key)}")

    def roll(self, options: dict[str, Any]) -> None:
        """Print the new token on standard output, and what becomes of the old key on standard error."""
        old = keys.find(options["id"])
        created = keys.roll(old, options["overlap"])
        old.refresh_from_db()
        self.stderr.write(f"{old.pk} ({old.redacted}) {_ends(old)}. {_remaining_use(old)}")
        self._show_once(created)

    def _show_once(self, created: keys.Created) -> None:
        self.stderr.write(f"{created.key.pk}: keep this key now, it is never shown again.")
        self.stdout.write(created.token)


def _tenant(slug: str | None) -> str | None:
    if slug is None:
        return None
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise CommandError(f"Tenant {slug} not found")
    return tenant.pk


def _line(key: ApiKey, status: keys.KeyStatus) -> tuple[str, ...]:
    tenant = key.tenant.slug if key.tenant else "-"
    used = f"{key.last_used_at:%Y-%m-%d %H:%M} from {key.last_used_from or '?'}" if key.last_used_at else "never"
    return key.pk, key.title, key.redacted, key.type, key.mode, status.value, tenant, used


def _ends(key: ApiKey) -> str:
    return f"works until {key.revoked_at:%Y-%m-%d %H:%M:%S} UTC"


def _remaining_use(key: ApiKey) -> str:
    if key.last_used_at is None:
        return "It has not been used."
    return (
        f"It was last used {key.last_used_at:%Y-%m-%d %H:%M:%S} UTC from {key.last_used_from or 'an unknown address'}."
    )
