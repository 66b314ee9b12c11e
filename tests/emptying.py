"""A database that is emptied in milliseconds after a test that commits: most of its tables hold nothing.

Django's own way gives each of the tables and indexes a new file and makes content types and permissions anew.
"""

from __future__ import annotations

from django.core.management import call_command
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

_STANDING = ("django_content_type", "auth_permission")
"""What migrating leaves rows in, and what no test changes (if one does, they are made anew)."""


class Emptying:
    """Leaves a database as it is now: migrated, with no rows but those of `_STANDING`."""

    def __init__(self) -> None:
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        tables = [connection.ops.quote_name(name) for name in names if name not in _STANDING]
        # Writers that a test left behind are waited for, so that nothing of theirs comes afterwards.
        self._wait = f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE"
        self._look = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
        with connection.cursor() as cursor:
            self._standing = _standing(cursor)

    def empty(self) -> None:
        """Remove every row that tests have made. Foreign keys are looked at when all rows are gone."""
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(self._wait)
            cursor.execute(self._look)
            for (table,) in cursor.fetchall():
                cursor.execute(f"DELETE FROM {table}")
            if _standing(cursor) == self._standing:
                return
        call_command("flush", verbosity=0, interactive=False)
        with connection.cursor() as cursor:
            self._standing = _standing(cursor)


def _standing(cursor: CursorWrapper) -> list[str]:
    """Return what tells any change of the rows that stay."""
    digest = "SELECT md5(string_agg(kept::text, '|' ORDER BY id)) FROM {} kept"
    cursor.execute(" UNION ALL ".join(digest.format(name) for name in _STANDING))
    return [told for (told,) in cursor.fetchall()]
