"""Whether ``SPOOL_DIR`` can be used: asked at every start and by ``manage.py check``, and told when it fails later."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
import structlog
from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004 (Django's name)

from external_apis import valkey
from external_apis.errors import ServiceUnavailable
from external_apis.health import OK

__all__ = ["check_folder", "look", "note_failure", "prepare"]

log = structlog.get_logger(__name__)

_SHOWN_SECONDS = 900
_HINT = "Give SPOOL_DIR a folder of this user alone (0700), on a disk that outlives the process."
_FAILED = f"{valkey.PREFIX}spool_failed"


def prepare() -> str:
    """Make the folder and write to it; return what is wrong, empty when all is well or no folder is set."""
    folder = Path(settings.SPOOL_DIR or "")
    if folder == Path():
        return ""
    probe = folder / f"{os.getpid()}.probe"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if problem := _problem(folder):
            return problem
        probe.write_bytes(b"1")
        probe.unlink(missing_ok=True)  # containers that share the folder may share a process id too
    except OSError as error:
        return f"SPOOL_DIR {folder} cannot be written ({error.strerror})."
    return ""


def check_folder(**_options: Any) -> list[CheckMessage]:
    """Name a folder that renewals could not use; part of ``manage.py check`` and of every command's start."""
    folder = Path(settings.SPOOL_DIR or "")
    problem = "" if folder == Path() else _problem(folder)
    return [Warning(problem, hint=_HINT, id="connections.W001")] if problem else []


def look() -> str:
    """Return ``ok``, or that answers of token endpoints are not kept on a disk: here, or lately in another process."""
    if check_folder():
        return "SPOOL_DIR cannot be used: manage.py check says why"  # and not to everybody, by its path
    with suppress(ServiceUnavailable), valkey.translate_errors():
        if valkey.quick_client().exists(_FAILED):
            return "token answers could not be written to SPOOL_DIR in the last 15 minutes"
    return OK


def note_failure(error: OSError) -> None:
    """Tell the log and everybody who looks at the product's health that an answer could not be kept."""
    log.error("the spool cannot be written", error=type(error).__name__, errno=error.errno)
    with suppress(redis.RedisError):
        valkey.quick_client().set(_FAILED, b"1", ex=_SHOWN_SECONDS)


def _problem(folder: Path) -> str:
    """What is wrong with a folder, or with where it would be made, without touching anything."""
    try:
        facts = folder.stat()
    except FileNotFoundError:
        above = next(parent for parent in folder.parents if parent.exists())
        can_be_made = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
        return "" if can_be_made else f"SPOOL_DIR {folder} does not exist and cannot be made by this user."
    except OSError as error:
        return f"SPOOL_DIR {folder} cannot be reached ({error.strerror})."
    is_own = facts.st_uid == os.geteuid() and not stat.S_IMODE(facts.st_mode) & 0o077
    if not stat.S_ISDIR(facts.st_mode) or not is_own:
        return f"SPOOL_DIR {folder} is not a folder that this user has for itself (0700)."
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"SPOOL_DIR {folder} cannot be written by this user."
