"""``manage.py check_encryption_keys``: refuse a database that was sealed under keys that we do not hold."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from external_apis.errors import VaultError
from external_apis.key_registry import verify_keys


class Command(BaseCommand):
    help = "Check that ENCRYPTION_KEYS holds every key that this database is sealed under; writes nothing."
    # Runs before anything else of the product does, also on a database without tables.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            verify_keys()
        except VaultError as error:
            raise CommandError(error.message) from None
        if options["verbosity"] > 1 or self.stdout.isatty():
            self.stdout.write("ENCRYPTION_KEYS fits this database.")
