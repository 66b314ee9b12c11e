"""Answers to first exchanges on disk, as renewals have theirs: a code works once, and what it gave must not be lost.

They lie in the folder ``first`` of ``SPOOL_DIR``, each under the id of its attempt, sealed under the key of the
attempt's tenant. `connections.first_grants` brings those that are left where they belong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from connections.models import OAuthFlow
from connections.oauth import spool_folder
from connections.oauth.flows import Kept
from connections.oauth.spool import Entry, SpoolFile, files, own_spool
from connections.oauth.tokens import Tokens
from external_apis.crypto import Key
from external_apis.data_keys import key_of
from external_apis.models.secret_bearing import secrets_field

__all__ = ["Answer", "keep", "key_for", "left", "open_entry", "settle"]


@dataclass(frozen=True, repr=False)
class Answer:
    """What the provider gave, and what the attempt remembers for the connection."""

    tokens: Tokens
    kept: Kept


def key_for(flow: OAuthFlow) -> Key:
    """Return what an attempt's answer is sealed with; to be asked for before the provider is. Raises `VaultError`."""
    return secrets_field(OAuthFlow).writing_key(flow)


def keep(flow: OAuthFlow, answer: Answer, cause: str, key: Key) -> Entry | None:
    """Have an answer on the disk; None where there is no folder, or none that can be written, which is told."""
    folder = _folder()
    if folder is None:
        return None
    content = json.dumps({"tokens": answer.tokens.to_json(), "kept": answer.kept.to_json()})
    entry = Entry.seal(flow.pk, 0, cause, content.encode(), key)
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # or it would be made for everybody to read
        own_spool(folder).append([entry])
    except OSError as error:
        spool_folder.note_failure(error)
        return None
    return entry


def settle(entry: Entry | None) -> None:
    """Let go of an answer that is stored, or will never be."""
    if entry is not None and (folder := _folder()) is not None:
        own_spool(folder).settle([entry])


@contextmanager
def left() -> Iterator[list[SpoolFile]]:
    """Open the files of all processes of this machine; see `spool.files`."""
    with files(_folder() or Path()) as found:
        yield found


def open_entry(entry: Entry) -> Answer:
    """Raises `VaultError` for what does not open, or not any more."""
    content = json.loads(entry.open(key_of(entry.sealed)))
    return Answer(Tokens.from_json(content["tokens"]), Kept.from_json(content["kept"]))


def _folder() -> Path | None:
    return Path(settings.SPOOL_DIR) / "first" if settings.SPOOL_DIR else None
