"""``manage.py tenants shred SLUG``: make one tenant's secrets unreadable for good."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from external_apis import request_context
from external_apis.errors import ApiManagerError
from external_apis.models import Tenant
from external_apis.shredding import shred


class Command(BaseCommand):
    help = "Look after tenants. 'shred' destroys the keys of a tenant: nobody can read its secrets again."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        shredding = commands.add_parser("shred", help="destroy a tenant's data keys, after asking twice")
        shredding.add_argument("slug")
        shredding.add_argument(
            "--yes-really", metavar="SLUG", help="for scripts: the slug once more, instead of being asked"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["slug"]
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            raise CommandError(f"Tenant {slug} not found")
        repeated = options["yes_really"]
        if not (self.is_agreed(tenant) if repeated is None else repeated == slug):
            raise CommandError("Nothing was destroyed.")
        with request_context.acting(f"command:tenants shred ({_login()})"):
            try:
                done = shred(tenant)
            except ApiManagerError as error:
                raise CommandError(error.message) from None
        self.stdout.write(f"{done.keys} data keys of {slug} are destroyed, {done.rows} rows are unreadable for good.")
        if done.resealed:
            self.stdout.write(
                f"{done.resealed} of them were not sealed under the tenant's own key until now: backups from before "
                "open them until the master key of that time is destroyed."
            )
        if not done.has_key_file:
            self.stdout.write("There is no BACKUP_KEYS_FILE: if backups were made elsewhere, run this there too.")
        self.stdout.write(
            "Copies that this command cannot reach (dumps of the database, its log archive, older copies of "
            "BACKUP_KEYS_FILE) hold the keys under the master key: rotate and destroy that one too (docs/vault.md)."
        )

    def is_agreed(self, tenant: Tenant) -> bool:
        """Ask twice; no answer at all is no."""
        try:
            self.stdout.write(f"This makes every stored secret of tenant {tenant.name} unreadable, in backups as well.")
            if input(f"Type {tenant.slug} to go on: ").strip() != tenant.slug:
                return False
            self.stdout.write("There is no way back.")
            return input(f"Type 'shred {tenant.slug}' to destroy the keys now: ").strip() == f"shred {tenant.slug}"
        except EOFError:
            return False


def _login() -> str:
    """The name in the operating system; a container may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
