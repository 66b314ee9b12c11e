"""Answers of token endpoints on disk before they are in the database: sealed, framed, append-only, one file a process.

A file lies in ``SPOOL_DIR`` (0700, the file 0600) and is held by its process with an `flock`: a file that nobody holds
was left by a process that died. A record is ``EAMR``, the length and CRC-32 of what follows (both big-endian), a JSON
header that says whose answer it is, and the sealed answer. What a crash cut off at the end fails its length or CRC and
was never promised to anybody. Damage before that is passed over up to the next whole record, and the file is set aside
(``*.damaged``) once its other records are settled, for somebody to look at.

An entry is needed until the database has it, or something newer: that is what `late` says, and `Spool.settle` is told.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import structlog
from django.conf import settings

from external_apis.crypto import Key, Sealed

__all__ = ["Entry", "Spool", "SpoolFile", "files", "own_spool"]

log = structlog.get_logger(__name__)

_MAGIC = b"EAMR"
_FRAME = struct.Struct(">4sIIH")
_SUFFIX, _DAMAGED = ".spool", ".damaged"
_MAX_RECORD = 1_048_576
_MAX_FILE = 268_435_456
_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has the longer one alone


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer: which connection's, under which lease, and the sealed `Tokens` with what was sent for them."""

    connection_id: str
    fence: int
    cause: str
    sealed: Sealed

    @staticmethod
    def identity(connection_id: str, fence: int) -> str:
        """Name the place that an answer is sealed for."""
        return f"connections.spool:{connection_id}:{fence}"

    @classmethod
    def seal(cls, connection_id: str, fence: int, cause: str, content: bytes, key: Key) -> Entry:
        return cls(connection_id, fence, cause, key.seal(content, cls.identity(connection_id, fence)))

    def open(self, key: Key) -> bytes:
        """Return what was sealed. Raises `Unreadable` for what was altered or belongs to another turn."""
        return key.open(self.sealed, self.identity(self.connection_id, self.fence))

    def frame(self) -> bytes:
        header = asdict(self)
        del header["sealed"]
        head = json.dumps(header, separators=(",", ":")).encode()
        content = head + bytes(self.sealed)
        return _FRAME.pack(_MAGIC, len(content), zlib.crc32(content), len(head)) + content


class Spool:
    """This process's file. Several threads append; it is emptied when none of what was appended is still needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._descriptor = -1
        self._needed: dict[tuple[str, int], tuple[Entry, float]] = {}

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries and have them on the disk (one fdatasync) before returning; without a folder do nothing.

        Raises `OSError`, as for a full disk; what was there before stays whole.
        """
        with self._lock:
            if self._folder == Path():
                return
            if self._descriptor < 0:
                self._descriptor = _create(self._folder)
            before = os.fstat(self._descriptor).st_size
            try:
                _write(self._descriptor, b"".join(entry.frame() for entry in entries))
                _sync_data(self._descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, before)
                raise
            now = time.monotonic()
            self._needed |= {(entry.connection_id, entry.fence): (entry, now) for entry in entries}

    def settle(self, entries: Sequence[Entry]) -> None:
        """Let go of entries that are in the database."""
        with self._lock:
            for entry in entries:
                self._needed.pop((entry.connection_id, entry.fence), None)
            if not self._needed and self._descriptor >= 0:
                with suppress(OSError):  # what stays behind is recognised as old by its number
                    os.ftruncate(self._descriptor, 0)

    def overdue(self, seconds: float) -> list[Entry]:
        """What was appended that long ago and is not known to be in the database."""
        with self._lock:
            before = time.monotonic() - seconds
            return [entry for entry, appended_at in self._needed.values() if appended_at <= before]

    def abandon(self) -> None:
        """Close the file without a word, as a forked child does whose parent goes on using it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SpoolFile:
    """A file in the spool's folder, of a living process (``is_left`` False) or left by one that died."""

    def __init__(self, path: Path, descriptor: int, *, is_left: bool) -> None:
        self.path, self._descriptor, self.is_left = path, descriptor, is_left
        self._is_damaged = False

    def entries(self) -> list[Entry]:
        """Read all whole records, whatever lies between them."""
        size = os.fstat(self._descriptor).st_size
        if size > _MAX_FILE:
            log.error("a spool file is too large to be read", file=self.path.name, bytes=size)
            self._is_damaged = True
            return []
        content = b""
        while len(content) < size and (piece := os.pread(self._descriptor, size - len(content), len(content))):
            content += piece
        return list(self._parse(content))

    def remove(self) -> None:
        """Delete a left file whose whole records are all settled, or set it aside where others do not read."""
        if not self.is_left:
            return
        with suppress(FileNotFoundError):
            if self._is_damaged:
                log.error("a damaged spool file was set aside", file=self.path.name)
                self.path.rename(self.path.with_suffix(_DAMAGED))
            else:
                self.path.unlink()

    def _parse(self, content: bytes) -> Iterator[Entry]:
        position, is_torn = 0, False
        while position < len(content):
            entry, following = _read_one(content, position)
            if entry is not None:
                self._is_damaged = self._is_damaged or is_torn
                yield entry
            else:
                is_torn = True
                found = content.find(_MAGIC, position + 1)
                following = found if found >= 0 else len(content)
            position = following
        if is_torn:
            log.warning("a spool file has records that are not whole", file=self.path.name, is_left=self.is_left)


def own_spool(folder: Path | None = None) -> Spool:
    """The spool of this process in a folder, by default ``settings.SPOOL_DIR``."""
    folder = Path(settings.SPOOL_DIR or "") if folder is None else folder
    with _making:
        return _spools.setdefault(folder, Spool(folder))


@contextmanager
def files(folder: Path | None = None) -> Iterator[list[SpoolFile]]:
    """Open every regular file of ours in a folder (``settings.SPOOL_DIR``); those left are held for the block.

    Links, folders, files of other users and other names are left alone.
    """
    found: list[SpoolFile] = []
    folder = Path(settings.SPOOL_DIR or "") if folder is None else folder
    try:
        paths = sorted(folder.glob(f"*{_SUFFIX}")) if folder != Path() else []
        found.extend(filter(None, map(_open, paths)))
        yield found
    finally:
        for file in found:
            os.close(file._descriptor)  # noqa: SLF001


def _open(path: Path) -> SpoolFile | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("a file in the spool's folder was left alone", file=path.name, error=type(error).__name__)
        return None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        log.warning("a file in the spool's folder was left alone", file=path.name, error="not a file of this user")
        os.close(descriptor)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return SpoolFile(path, descriptor, is_left=False)
    return SpoolFile(path, descriptor, is_left=True)


def _create(folder: Path) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise PermissionError(f"SPOOL_DIR {folder} is not a folder that this user has for itself (0700).")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    while True:
        path = folder / f"{os.getpid()}-{uuid4().hex}{_SUFFIX}"
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between the two calls somebody may have taken it for a left one, empty, and removed it.
        if os.fstat(descriptor).st_nlink:
            _sync_folder(folder)
            return descriptor
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Have the new file's name on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_one(content: bytes, position: int) -> tuple[Entry | None, int]:
    """Return the record at a position and where the next one begins; None for what is no whole record."""
    start = position + _FRAME.size
    if start > len(content):
        return None, position
    magic, length, crc, head_length = _FRAME.unpack_from(content, position)
    body = content[start : start + length]
    if magic != _MAGIC or length > _MAX_RECORD or len(body) < length or zlib.crc32(body) != crc or head_length > length:
        return None, position
    try:
        entry = Entry(**json.loads(body[:head_length]), sealed=Sealed(body[head_length:]))
    except (ValueError, TypeError):
        return None, position
    if not isinstance(entry.connection_id, str) or type(entry.fence) is not int or not isinstance(entry.cause, str):
        return None, position
    return entry, start + length


def _forget_parents_spools() -> None:
    global _making  # noqa: PLW0603 (another thread of the parent may have held it)
    _making = threading.Lock()
    for spool in _spools.values():
        spool.abandon()
    _spools.clear()


_making = threading.Lock()
_spools: dict[Path, Spool] = {}
os.register_at_fork(after_in_child=_forget_parents_spools)
