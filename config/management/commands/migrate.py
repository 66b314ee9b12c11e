"""``manage.py migrate`` as the owner of the tables; the product's own role may do with less."""

from __future__ import annotations

from typing import Any

import environ
from django.conf import settings
from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, connections

_LOGIN = ("USER", "PASSWORD", "HOST", "PORT", "OPTIONS")


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
        # Without a pool: that one is kept by alias and belongs to the product's role.
        connection.settings_dict = {**before, "OPTIONS": {}, **{name: owner[name] for name in _LOGIN if name in owner}}
        try:
            super().handle(*args, **options)
        finally:
            connection.close()
            connection.settings_dict = before
