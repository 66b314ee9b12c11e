"""``manage.py migrate`` as the owner of the tables; the product's own role may do with less."""

from __future__ import annotations

from typing import Any

import environ
from django.conf import settings
from django.core.management import CommandError
from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from psycopg.errors import LockNotAvailable

LOCK_SECONDS = 3
"""So long it waits for a lock, unless MIGRATE_DATABASE_URL has an own ``lock_timeout``: whoever writes to the table
waits behind it, and gives up after 10 seconds."""
_LOGIN = ("USER", "PASSWORD", "HOST", "PORT")


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        """Connect as ``MIGRATE_DATABASE_URL`` says, to the database that the connection names (a test's, for one)."""
        if options["database"] != DEFAULT_DB_ALIAS:
            super().handle(*args, **options)
            return
        connection = connections[DEFAULT_DB_ALIAS]
        before = connection.settings_dict
        owner = environ.Env.db_url_config(settings.MIGRATE_DATABASE_URL)
        connection.close()
        given = owner.get("OPTIONS", {})
        # Without a pool: that one is kept by alias and belongs to the product's role.
        connection.settings_dict = {
            **before,
            **{name: owner[name] for name in _LOGIN if name in owner},
            "OPTIONS": {**given, "options": f"-c lock_timeout={LOCK_SECONDS}s {given.get('options', '')}".strip()},
        }
        try:
            super().handle(*args, **options)
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            raise CommandError(
                "The migration waited for a table that another transaction holds, and gave up so that nobody waits "
                "behind it. It can be repeated; a long transaction, such as a backup's, is to end first."
            ) from None
        finally:
            connection.close()
            connection.settings_dict = before

    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:
        if action in {"apply_start", "unapply_start"}:
            # Nobody waits behind an index that is made while its table is in use; given up, it is left half made.
            with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
                cursor.execute("RESET lock_timeout" if migration.atomic else "SET lock_timeout = 0")
        super().migration_progress_callback(action, migration, fake)
