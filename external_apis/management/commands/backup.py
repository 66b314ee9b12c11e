"""``manage.py backup FILE``: everything that the database holds, encrypted under a passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from external_apis import request_context
from external_apis.backup import passphrase
from external_apis.backup.dump import back_up
from external_apis.errors import ApiManagerError


class Command(BaseCommand):
    help = (
        "Write everything but the sessions into a new file, encrypted under BACKUP_PASSPHRASE (or _FILE, or what is "
        "typed). To restore it, ENCRYPTION_KEYS and BACKUP_KEYS_FILE are needed as well."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with request_context.acting("command:backup"):
                rows = back_up(options["file"], passphrase.ask(twice=True))
        except ApiManagerError as error:
            raise CommandError(error.message) from None
        self.stdout.write(
            f"{rows.total()} rows of {len(+rows)} tables are in {options['file']}. Keep the newest "
            f"{settings.BACKUP_KEYS_FILE} and ENCRYPTION_KEYS elsewhere: without them its secrets do not open."
        )
