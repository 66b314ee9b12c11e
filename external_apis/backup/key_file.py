"""The file of wrapped data keys that belongs to all backups together, ``settings.BACKUP_KEYS_FILE``.

A backup holds values sealed under data keys, and no data key: those stand here, wrapped by a master key as in the
database. There is one such file, always today's: shredding a tenant takes its keys out of it, and so makes its secrets
in every backup unreadable; rotating the master key wraps the keys in it anew. `DataKey.kept_at` remembers which keys
it has: where they are not found, another file is being looked at, and nobody may go on as if it were the right one.
"""

from __future__ import annotations

import base64
import binascii
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from external_apis.crypto import Sealed
from external_apis.errors import InvalidInput
from external_apis.keyring import keyring
from external_apis.models import DataKey

__all__ = ["KeptKey", "read", "refresh", "update"]

_FORMAT, _VERSION = "external-apis-backup-keys", 1


@dataclass(frozen=True)
class KeptKey:
    """A data key as the file has it; without ``wrapped`` it was shredded and never comes back."""

    tenant_id: str | None
    wrapped: bytes | None


def read(path: Path | None = None) -> dict[str, KeptKey]:
    """Return the file's keys by id; none where there is no file. Raises `InvalidInput` for a damaged one."""
    path = path or _path()
    try:
        data = json.loads(path.read_text("utf-8"))
        if (data["format"], data["version"]) != (_FORMAT, _VERSION):
            raise InvalidInput(f"{path} is of an unknown format or version.")
        return {key_id: _from_json(entry) for key_id, entry in data["keys"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise InvalidInput(f"{path} is damaged: it does not hold data keys.") from None


def refresh(rewrapped: Callable[[str, Sealed], Sealed] | None = None) -> bool:
    """`update` the file; False where there is none and no backup was ever made.

    Raises `InvalidInput` where the file lacks keys that it once had, because it is missing or another one.
    """
    needed = set(DataKey.objects.exclude(kept_at=None).values_list("pk", flat=True))
    if not needed and not (settings.BACKUP_KEYS_FILE and _path().is_file()):
        return False
    if missing := needed - set(read()):
        raise InvalidInput(
            f"BACKUP_KEYS_FILE {_path()} lacks {len(missing)} data keys of backups that were made: it is missing or "
            "not the newest. Set BACKUP_KEYS_FILE to the newest copy and repeat this; where every copy is lost, "
            "`manage.py backup` makes the file anew first."
        )
    update(rewrapped)
    return True


def update(rewrapped: Callable[[str, Sealed], Sealed] | None = None) -> int:
    """Bring the file up to date with the database; return how many keys it holds.

    Keys are added and never taken out, but by being shredded: an older backup may need them. ``rewrapped`` seals one
    under the writing master key, where the keyring has its own. Raises `InvalidInput` where the file cannot be written.
    """
    path = _path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(path.with_name(f"{path.name}.lock")):
            kept = _merged(read(path), rewrapped)
            _write(path, kept)
    except OSError as error:
        hint = " Mount its folder, not the file alone." if error.errno == errno.EBUSY else ""
        raise InvalidInput(f"BACKUP_KEYS_FILE {path} cannot be written: {error.strerror}.{hint}") from None
    DataKey.objects.filter(pk__in=kept, kept_at=None).update(kept_at=timezone.now())
    return sum(key.wrapped is not None for key in kept.values())


def _merged(kept: Mapping[str, KeptKey], rewrapped: Callable[[str, Sealed], Sealed] | None) -> dict[str, KeptKey]:
    merged = dict(kept)
    for key_id, tenant_id, wrapped in DataKey.objects.order_by("pk").values_list("pk", "tenant_id", "wrapped"):
        is_shredded = key_id in kept and kept[key_id].wrapped is None
        merged[key_id] = KeptKey(tenant_id, None if wrapped is None or is_shredded else bytes(wrapped))
    if rewrapped is not None:
        for key_id, key in merged.items():
            old = Sealed(key.wrapped or b"")
            if old and old.key_id != keyring().writing_key_id and old.key_id in keyring().key_ids:
                merged[key_id] = KeptKey(key.tenant_id, bytes(rewrapped(key_id, old)))
    return merged


def _path() -> Path:
    """The file itself: replacing a symbolic link would leave the keys where they are."""
    if not settings.BACKUP_KEYS_FILE:
        raise InvalidInput("Set BACKUP_KEYS_FILE to the path of the file that keeps the data keys of all backups.")
    try:
        return Path(settings.BACKUP_KEYS_FILE).resolve()
    except (OSError, RuntimeError):  # links in a circle; a RuntimeError until Python 3.12
        raise InvalidInput(f"BACKUP_KEYS_FILE {settings.BACKUP_KEYS_FILE} leads nowhere.") from None


def _from_json(entry: Mapping[str, Any]) -> KeptKey:
    wrapped = entry["wrapped"]
    return KeptKey(entry["tenant"], None if wrapped is None else base64.b64decode(wrapped, validate=True))


def _write(path: Path, keys: Mapping[str, KeptKey]) -> None:
    entries = {
        key_id: {
            "tenant": key.tenant_id,
            "wrapped": None if key.wrapped is None else base64.b64encode(key.wrapped).decode(),
        }
        for key_id, key in keys.items()
    }
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "version": _VERSION, "keys": entries}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
