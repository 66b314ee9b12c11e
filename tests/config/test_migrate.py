"""``manage.py migrate`` on an installation that is at work: nobody waits long behind it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations import Migration
from django.db.models.signals import pre_migrate

from config.management.commands import migrate


class _InUse(Migration):
    atomic = False


def _limit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_it_waits_three_seconds_for_a_lock_unless_it_makes_an_index_in_use() -> None:
    """An index that is given up would be left behind half made, and nobody waits behind it."""
    shown: list[str] = []

    def show(**_: object) -> None:
        command = migrate.Command()
        command.verbosity = 0
        shown.append(_limit())
        for kind in (_InUse, Migration):
            command.migration_progress_callback("apply_start", kind("one", "some_app"))
            shown.append(_limit())

    pre_migrate.connect(show)
    try:
        call_command("migrate", verbosity=0)
    finally:
        pre_migrate.disconnect(show)
    assert shown[:3] == ["3s", "0", "3s"]
    assert _limit() == "0", "the product's own connection"


@pytest.mark.django_db(transaction=True)
def test_it_says_that_somebody_holds_a_table(settings: Any) -> None:
    url = settings.MIGRATE_DATABASE_URL
    settings.MIGRATE_DATABASE_URL = f"{url}{'&' if '?' in url else '?'}options=-c%20lock_timeout%3D50"
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("LOCK TABLE django_migrations IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(CommandError, match="waited for a table that another transaction holds"):
            call_command("migrate", verbosity=0)
