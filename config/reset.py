"""``make reset``: empty an embedded installation, even one whose secrets are lost and whose settings do not load.

python -m config.reset [--force]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from config import embedded, runtime

if TYPE_CHECKING:
    from pathlib import Path

# By name: VAR_DIR may be a folder that holds other things too. The lock files stay, others may be waiting for them.
_CONTENTS = ("postgres*", "valkey*", "beat*", "secrets.env*", "first-login.env*", "sockets*")


def main(arguments: list[str]) -> None:
    """Ask unless ``--force``, then delete; exits with one line when it may not or was not told yes."""
    if not runtime.is_embedded(os.environ):
        sys.exit("DATABASE_URL or REDIS_URL is set: reset only empties embedded data.")
    folder = runtime.var_dir(os.environ)
    if not folder.is_dir():
        sys.exit(f"{folder} is not there: nothing to empty.")
    try:
        with embedded.claim(folder):
            if "--force" not in arguments and not _is_agreed(folder):
                sys.exit("Nothing was deleted.")
            empty(folder)
    except CommandError as error:
        sys.exit(str(error))
    print(f"Emptied {folder}.")


def empty(folder: Path) -> None:
    """Delete everything that an embedded installation made in ``folder``, and its socket folder."""
    with contextlib.suppress(ImproperlyConfigured):  # gone already, or not ours to delete
        shutil.rmtree(runtime.socket_dir(folder))
    for pattern in _CONTENTS:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_agreed(folder: Path) -> bool:
    print(f"This deletes every provider, connection and secret in {folder}. Type yes to go on: ", end="", flush=True)
    return sys.stdin.readline().strip().lower() == "yes"


if __name__ == "__main__":
    main(sys.argv[1:])
