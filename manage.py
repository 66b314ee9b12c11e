#!/usr/bin/env python
"""Django's command line; in an embedded installation the servers that a command needs are there while it runs."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, execute_from_command_line
from django.db import OperationalError

from config import embedded, runtime
from connections.remote.environment import departing, split_command

# These never open the database, or (`up`, `reset`) treat the servers themselves.
_WITHOUT_SERVERS = frozenset(
    [
        "check",
        "collectstatic",
        "compilemessages",
        "diffsettings",
        "help",
        "makemessages",
        "reset",
        "spectacular",
        "startapp",
        "up",
        "version",
    ]
)


def main(arguments: list[str]) -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if arguments[1:2] == ["up"]:
        # Other commands of an embedded installation follow the port of the last `up` (see config.runtime).
        os.environ.setdefault("PORT", "8000")
    try:
        with departing(), _servers(arguments):  # servers that this process has started are stopped first
            execute_from_command_line(arguments)
    except (CommandError, ImproperlyConfigured) as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        print("Broken off.", file=sys.stderr)
        sys.exit(130)
    except OperationalError as error:
        sys.exit(f"The database is unavailable: {str(error).strip().splitlines()[0]}")


def _servers(arguments: list[str]) -> AbstractContextManager[object]:
    if not runtime.is_embedded(os.environ):
        return nullcontext()
    folder = runtime.var_dir(os.environ)
    if runtime.prepare(folder):
        print(
            f"Made {folder}/secrets.env. Losing this file loses every stored credential: keep a copy elsewhere.",
            file=sys.stderr,
        )
    command = arguments[1] if len(arguments) > 1 else "help"
    is_offline = (
        command in _WITHOUT_SERVERS or command.startswith("-") or {"-h", "--help"} & set(split_command(arguments)[0])
    )
    return nullcontext() if is_offline else embedded.reach(folder)


if __name__ == "__main__":
    main(sys.argv)
