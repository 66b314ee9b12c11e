"""Refuse to start without a usable ``SPOOL_DIR``: a crash would lose tokens that providers give out once."""

from __future__ import annotations

import sys

from connections.oauth import spool_folder


def end_without_spool() -> None:
    """End this process with one line that names the folder and what is wrong with it."""
    if problem := spool_folder.prepare():
        sys.exit(problem)
