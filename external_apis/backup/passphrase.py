"""Where the passphrase of a backup comes from: the environment, a file, or somebody at the terminal."""

from __future__ import annotations

import os
import sys
from getpass import getpass
from pathlib import Path

from external_apis.errors import InvalidInput

__all__ = ["ask"]

NAME = "BACKUP_PASSPHRASE"


def ask(*, twice: bool = False) -> str:
    """Return the passphrase of ``BACKUP_PASSPHRASE`` or ``BACKUP_PASSPHRASE_FILE``, or ask for it.

    It is never an argument, which every user of the machine could see. Raises `InvalidInput` where there is none.
    """
    passphrase = os.environ.get(NAME, "")
    if not passphrase and (path := os.environ.get(f"{NAME}_FILE")):
        try:
            passphrase = Path(path).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise InvalidInput(f"{NAME}_FILE {path} cannot be read.") from None
    if not passphrase and sys.stdin.isatty():
        passphrase = getpass("Passphrase of the backup: ")
        if twice and getpass("The same again: ") != passphrase:
            raise InvalidInput("The two passphrases differ.")
    if not passphrase:
        raise InvalidInput(f"Set {NAME} (or {NAME}_FILE), or type a passphrase at a terminal.")
    return passphrase
