"""``manage.py restore FILE``: put a backup into an empty database, all of it or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from external_apis import request_context
from external_apis.backup import passphrase
from external_apis.backup.load import restore
from external_apis.errors import ApiManagerError


class Command(BaseCommand):
    help = (
        "Restore a backup into an empty database, which is migrated first. The whole file is checked before anything "
        "is written."
    )
    # The database may have no tables yet.
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--accept-lost-keys",
            action="store_true",
            help="restore although BACKUP_KEYS_FILE lacks data keys; the secrets under them are lost",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with request_context.acting("command:restore"):
                rows = restore(options["file"], passphrase.ask(), accept_lost_keys=options["accept_lost_keys"])
        except ApiManagerError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{rows.total()} rows of {len(+rows)} tables are restored.")
