"""``manage.py rotate_encryption_keys``: bring everything that is sealed under today's keys, while it is in use."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Model
from rich.progress import Progress as Bar
from rich.progress import TaskID

from external_apis import request_context
from external_apis.backup import key_file
from external_apis.errors import ApiManagerError
from external_apis.keyring import keyring
from external_apis.rotation import (
    BATCH_SIZE,
    Census,
    Progress,
    retire_keys,
    rewrapped,
    rotate,
    take_census,
    unfinished_keys,
)

_NAMED_AT_MOST = 10


class Command(BaseCommand):
    help = (
        "Seal everything under today's keys: put the new key first in ENCRYPTION_KEYS, keep the old one behind it, run "
        "this, and remove the old key once it is called retired. May be broken off and repeated at will."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="only report; exit code 1 when something is left to do"
        )
        parser.add_argument("--data-keys", action="store_true", help="make new data keys too, and reseal every secret")
        parser.add_argument("--batch-size", type=_positive, default=BATCH_SIZE, help="rows in one statement")

    def handle(self, *args: Any, **options: Any) -> None:
        with request_context.acting("command:rotate_encryption_keys"):
            try:
                if options["check"]:
                    self.report(take_census())
                else:
                    self.rotate(options["batch_size"], options["data_keys"])
            except ApiManagerError as error:
                raise CommandError(error.message) from None

    def rotate(self, batch_size: int, with_data_keys: bool) -> None:
        """Rotate, keep the backups' keys in step, retire what seals nothing, and tell how it stands."""
        unreadable: dict[str, list[str]] = {}
        for progress in self.shown(rotate(batch_size, with_data_keys=with_data_keys)):
            unreadable.setdefault(str(progress.column), []).extend(progress.unreadable)
        key_file.refresh(rewrapped)
        for key_id in retire_keys():
            self.stdout.write(f"Encryption key {key_id} is retired: nothing is sealed under it, remove it now.")
        for column, keys in unreadable.items():
            if keys:
                named = ", ".join(sorted(set(keys))[:_NAMED_AT_MOST])
                self.stderr.write(f"{column}: {len(set(keys))} values do not open and stay as they are: {named}")
        for key in unfinished_keys() if with_data_keys else ():
            self.stderr.write(
                f"Skipped: rows of {key.tenant.slug if key.tenant else 'no tenant'} are still sealed under data key "
                f"{key.pk}. No new one is made there until they are mended or deleted."
            )
        self.report(take_census())

    def report(self, census: Census) -> None:
        """Write the count of each key; raises `CommandError` when something is not under today's keys."""
        for key_id, count in census.by_key().items():
            kind = "old" if key_id in census.old else "destroyed" if key_id in census.destroyed else "current"
            self.stdout.write(f"{key_id}\t{count}\t{kind}")
        for column, count in census.damaged.items():
            self.stderr.write(f"{column}: {count} values are damaged beyond telling their key.")
        if census.remaining:
            raise CommandError(
                f"{census.remaining} values are not under today's keys (data keys under {keyring().writing_key_id}, "
                "secrets under data keys): no key that is called old here may be removed."
            )

    def shown(self, steps: Iterator[Progress]) -> Iterator[Progress]:
        """Pass the steps on, drawn as bars on a terminal and as lines into a pipe."""
        if not self.stdout.isatty():
            for step in steps:
                self.stdout.write(_line(step))
                yield step
            return
        with Bar() as bar:
            tasks: dict[type[Model], TaskID] = {}
            for step in steps:
                if step.column.model not in tasks:
                    total = step.column.model._base_manager.count()
                    tasks[step.column.model] = bar.add_task(str(step.column), total=total)
                bar.advance(tasks[step.column.model], step.seen)
                yield step


def _line(step: Progress) -> str:
    more = "".join(
        f", {count} {what}" for count, what in ((step.busy, "in use"), (len(step.unreadable), "unreadable")) if count
    )
    return f"{step.column}: {step.seen} rows, {step.resealed} resealed{more}"


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 100_000:
        raise ArgumentTypeError("a number from 1 to 100,000")
    return int(text)
