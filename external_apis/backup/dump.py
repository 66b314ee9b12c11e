"""Write a backup: one snapshot of every table, streamed through the encryption into a new file."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path

from django.db import connection, transaction
from django.utils import timezone
from psycopg import sql

from external_apis import audit
from external_apis.backup import frames, key_file
from external_apis.backup.container import Writer
from external_apis.backup.tables import Table, applied_migrations, stored_tables
from external_apis.errors import Conflict, InvalidInput

__all__ = ["back_up"]

VERSION = 1


def back_up(path: Path, passphrase: str) -> Counter[str]:
    """Write everything into ``path`` and bring ``BACKUP_KEYS_FILE`` up to date; return the rows by table.

    The file appears when it is whole, readable by its owner alone. Raises `Conflict` where it is there already and
    `InvalidInput` where it cannot be written.
    """
    if not passphrase:
        raise InvalidInput("A backup needs a passphrase.")
    if path.exists():
        raise Conflict(f"{path} is there already.")
    with transaction.atomic(durable=True):
        # A reading of everything: committed before anything is read.
        audit.record_about("backup.made", "backup", path.name[:100])
    key_file.update()  # fails early, and the rows of the snapshot know that their keys are kept
    draft = path.with_name(f"{path.name}.part")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            writer = Writer(file, passphrase)
            rows = _write_snapshot(writer)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        # Once more for keys made meanwhile, and before the backup appears: without them it would be worth little.
        key_file.update()
        draft.rename(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return rows


def _write_snapshot(writer: Writer) -> Counter[str]:
    rows: Counter[str] = Counter()
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tables = stored_tables()
        manifest = {
            "version": VERSION,
            "made_at": timezone.now().isoformat(),
            "migrations": applied_migrations(),
            "tables": [{"name": table.name, "columns": list(table.columns)} for table in tables],
        }
        frames.write_json(writer, frames.MANIFEST, manifest)
        for table in tables:
            frames.write_json(writer, frames.TABLE, {"name": table.name})
            rows[table.name] = _write_table(writer, table)
        frames.write_json(writer, frames.END, {"rows": rows})
    return rows


def _write_table(writer: Writer, table: Table) -> int:
    statement = sql.SQL("COPY {} ({}) TO STDOUT (ENCODING 'UTF8')").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )
    with connection.cursor() as cursor:
        raw = cursor.cursor
        with raw.copy(statement) as copy:
            for block in copy:
                frames.write(writer, frames.DATA, block)
        return int(raw.rowcount)
