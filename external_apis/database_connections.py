"""Gives database connections back while something else is waited for."""

from __future__ import annotations

from django.db import connections

__all__ = ["give_back_database_connections"]


def give_back_database_connections() -> None:
    """Leave this thread's database connections to others; open transactions stay."""
    for database in connections.all(initialized_only=True):
        if database.connection is not None and not database.in_atomic_block and database.autocommit:
            database.close()
