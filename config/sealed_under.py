"""Refuse to start with encryption keys that are not those of the database, whichever way a process is started."""

from __future__ import annotations

import sys

import structlog
from django.db import Error, connection

from external_apis.errors import VaultError
from external_apis.key_registry import verify_keys

log = structlog.get_logger(__name__)


def end_with_foreign_keys() -> None:
    """End this process with one line when the database is sealed under other keys than ours.

    A database that is away is left to each request's own error: the process is there when it comes back.
    """
    try:
        verify_keys()
    except VaultError as error:
        sys.exit(error.message)
    except Error:
        log.warning("The database is away; its encryption keys could not be checked.")
    finally:
        connection.close()
