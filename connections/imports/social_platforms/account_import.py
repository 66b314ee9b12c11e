"""Makes connections of the old accounts, batch by batch; each batch is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from connections.imports import refresh_tokens, runs, storing
from connections.imports.progress import Meter
from connections.imports.runs import Imported
from connections.imports.social_platforms import twins
from connections.imports.social_platforms.accounts import Account, read_account
from connections.imports.social_platforms.drafts import Draft, build
from connections.imports.social_platforms.old_database import ACCOUNTS
from connections.imports.social_platforms.old_rows import UNREADABLE, OldRow, named, read_row
from connections.imports.social_platforms.owners import Owner
from connections.imports.social_platforms.platform_import import (
    DELETED,
    GONE_HERE,
    TWICE,
    Platform,
)
from connections.imports.social_platforms.refusals import reason_of, refused
from connections.imports.social_platforms.row_batches import batches
from connections.imports.social_platforms.sources import Read
from connections.imports.social_platforms.work import Work
from connections.models import ExternalApiConnection, ImportedRow
from external_apis.errors import ApiManagerError

__all__ = ["AccountImport", "own_accounts"]

CHANGED_SINCE = "changed in the old system since it was imported: left here as it is"
SAME_PAGE = "of a page that another account stands for too"
DUPLICATE = "of a page and tokens that another account has too"
SAME_GRANT = "of a refresh token that another connection has: only one of them may renew it"
NO_PLATFORM = "of a platform that is not in the source"
REFUSED_PLATFORM = "of a platform that was not imported"
TAKEN = "of a slug that somebody else's connection has here"

_CONNECTION = ExternalApiConnection._meta.model_name or ""


class AccountImport:
    """Imports accounts of these platforms, by their old ids.

    Accounts that stand there twice are told by what was seen of them, those that were imported by another run, from
    whichever source and for whichever tenant, by their tokens' digests.
    """

    def __init__(self, platforms: Mapping[str, Platform], work: Work, *, now: datetime | None = None) -> None:
        self._platforms, self._work, self._summary = platforms, work, work.summary
        self._now = now or timezone.now()
        self._seen = twins.Seen()
        self._counts: dict[str, int] = {}
        # A dry run makes no key for digests that there are none of to compare with.
        self._may_be_here = not work.is_dry or ImportedRow.objects.exclude(token_digest="").exists()

    def take(self, reads: Iterable[Read], table: str, meter: Meter, stop: Callable[[], bool]) -> bool:
        """Import what is read, or until it is time to stop; tell whether that was all.

        Raises `InvalidInput` and `ServiceUnavailable` where the source cannot be read any more, and `Conflict` where
        somebody else has gone on with the run.
        """
        for batch in batches(reads):
            failed = self._summary.accounts["failed"]
            self._take_batch(batch, table)
            new = [read for read in batch if not read.is_past]
            meter.advance(len(new), self._summary.accounts["failed"] - failed)
            if stop():
                return False
        return True

    def _take_batch(self, batch: Sequence[Read], table: str) -> None:
        self._counts = {}
        rows = [(read, row) for read in batch if (row := self._row(read, table)) is not None]
        self._work.owners.look_up([row for _, row in rows])
        known = runs.known(self._work.run, [row.source_key for _, row in rows])
        before = {key: one for (key, kind), one in known.items() if kind == _CONNECTION}
        living = set(
            ExternalApiConnection.objects.filter(
                pk__in=[one.object_id for one in before.values()], deleted_at=None
            ).values_list("pk", flat=True)
        )
        drafts: dict[str, Draft] = {}
        for read, row in rows:
            if row.source_key in drafts:
                self._pass_over(TWICE, is_past=read.is_past)
            elif (draft := self._draft(read, row, before.get(row.source_key), living)) is not None:
                drafts[row.source_key] = draft
        position = {} if batch[-1].is_past else {table: dict(batch[-1].position)}
        with transaction.atomic():
            if not self._work.is_dry:
                refresh_tokens.let_nobody_else_store()
            self._store(self._free(self._not_here(list(drafts.values()))), position)

    def _row(self, read: Read, table: str) -> OldRow | None:
        try:
            if read.problem:
                raise refused(UNREADABLE, read.problem)
            return read_row(table, read.row, self._work.keys)
        except ApiManagerError as error:
            self._fail(table, named(read.row, read.position), error, is_past=read.is_past)
            return None

    def _draft(self, read: Read, row: OldRow, before: ImportedRow | None, living: set[str]) -> Draft | None:
        """Return what is to be stored of a row; None where that is nothing, which is counted with its reason."""
        try:
            platform = self._platforms.get(_platform_id(row))
            account, owner = self._read(row, platform)
        except ApiManagerError as error:
            if before is None and row.is_deleted:
                self._pass_over(DELETED, is_past=read.is_past)
            elif before is None:
                self._fail(row.table, row.id, error, is_past=read.is_past, **_told(row))
            elif not read.is_past:
                self._count("recognised")
            return None
        is_gone = before is not None and before.object_id not in living
        place = _platform_id(row), row.column("user_id")
        is_double, is_of_same_grant, is_of_same_page = self._seen.notice(account, owner, *place, is_gone=is_gone)
        if (read.is_past and before is not None) or self._is_done(row, before, living):
            return None
        if is_double:
            self._pass_over(DUPLICATE, is_past=read.is_past)
            return None
        if is_of_same_grant:
            same = refused(SAME_GRANT, "its refresh token is another account's too")
            self._fail(row.table, row.id, same, is_past=read.is_past, **_told(row))
            return None
        if is_of_same_page:
            self._summary.notes[SAME_PAGE] += 1
        for note in (*account.notes, *owner.notes):
            self._summary.notes[note] += 1
        return Draft(row, account, platform.api if platform else None, owner, read.is_past)

    def _read(self, row: OldRow, platform: Platform | None) -> tuple[Account, Owner]:
        if row.is_deleted:
            raise refused(DELETED, DELETED)
        if platform is None:
            raise refused(NO_PLATFORM, f"its platform {_platform_id(row)!a} is not in the source")
        if platform.config is None:
            raise refused(REFUSED_PLATFORM, f"its platform {_platform_id(row)!a} was not imported: {platform.refusal}")
        owner = self._work.owners.of(row)
        tenant_id = platform.api.tenant_id if platform.api else None
        if tenant_id is not None and (owner.tenant is None or owner.tenant.pk != tenant_id):
            raise refused("of another tenant than its platform", "belongs to another tenant than its platform")
        return read_account(row, platform.config, self._now, self._work.run.origin), owner

    def _is_done(self, row: OldRow, before: ImportedRow | None, living: set[str]) -> bool:
        """Count a row that was imported before, by this run or another one."""
        if before is None:
            return False
        if before.object_id not in living:
            self._count("skipped", GONE_HERE)
        else:
            self._count("recognised")
            if before.source_digest != row.version:
                self._summary.notes[CHANGED_SINCE] += 1
        return True

    def _not_here(self, drafts: list[Draft]) -> list[Draft]:
        """Leave out what another run has imported: the very same account, and others of the same refresh token."""
        if not (self._may_be_here and drafts):
            return drafts
        told = [
            replace(draft, token_digest=refresh_tokens.digest(twins.mark_of(draft.account, draft.place)))
            for draft in drafts
        ]
        holders = refresh_tokens.holders([draft.token_digest for draft in told])
        held = twins.places_of(holders.values())
        free = []
        for draft in told:
            holder = holders.get(draft.token_digest)
            if holder is None:
                free.append(draft)
            elif not draft.account.credentials.secrets.get("refresh_token") or held.get(holder) == draft.place:
                self._pass_over(DUPLICATE, is_past=draft.is_past)
            else:
                error = refused(SAME_GRANT, f"its refresh token is that of {holder} here")
                self._fail(draft.row.table, draft.row.id, error, is_past=draft.is_past, **_told(draft.row))
        return free

    def _free(self, drafts: list[Draft]) -> list[Draft]:
        slugs = [draft.account.slug for draft in drafts]
        taken = set(
            ExternalApiConnection.objects.filter(slug__in=slugs, deleted_at=None).values_list("external_api_id", "slug")
        )
        free = []
        for draft in drafts:
            if draft.api is not None and (draft.api.pk, draft.account.slug) in taken:
                error = refused(TAKEN, f"slug {draft.account.slug} is taken")
                self._fail(draft.row.table, draft.row.id, error, is_past=draft.is_past)
            else:
                free.append(draft)
        return free

    def _store(self, drafts: list[Draft], position: Mapping[str, Any]) -> None:
        self._count_made(len(drafts))
        if self._work.is_dry:
            return
        self._work.report.flush()
        made = [(draft, build(draft, self._now)) for draft in drafts]
        storing.store([connection for _, connection in made])
        runs.record(
            self._work.run,
            [
                Imported(
                    draft.row.source_key,
                    row,
                    row.credential,
                    source_digest=draft.row.version,
                    token_digest=draft.token_digest,
                )
                for draft, row in made
            ],
            self._counts,
            {**self._work.run.position, **position},
        )

    def _count_made(self, number: int) -> None:
        if number:
            self._summary.accounts["migrated"] += number
            self._counts["created"] = self._counts.get("created", 0) + number

    def _count(self, what: str, reason: str = "") -> None:
        self._summary.accounts[what] += 1
        self._counts[what] = self._counts.get(what, 0) + 1
        if reason:
            self._summary.reasons[f"accounts: {reason}"] += 1

    def _pass_over(self, reason: str, *, is_past: bool) -> None:
        """One before the position was counted when its batch was stored."""
        if not is_past:
            self._count("skipped", reason)

    def _fail(self, table: str, row_id: str, error: ApiManagerError, *, is_past: bool = False, **facts: Any) -> None:
        """One before the position that the report has already was counted when it was written there."""
        is_new = self._work.report.add(table, row_id, reason_of(error), error.message, **facts)
        if is_new or not is_past:
            self._count("failed", reason_of(error))


def own_accounts(platforms: Mapping[str, Platform], after: Mapping[str, Any]) -> Iterator[Read]:
    """Read the accounts that stand in their platform's own row, those up to the position ``after`` as past ones."""
    own = [platform.own_account for platform in platforms.values() if platform.own_account is not None]
    for number, read in enumerate(own, start=1):
        yield Read(read.row, {"rows": number}, is_past=number <= int(after.get("rows", 0)))


def _platform_id(row: OldRow) -> str:
    return row.id if row.table != ACCOUNTS else row.column("social_platform_id", "platform_id", "external_api_id")


def _told(row: OldRow) -> dict[str, Any]:
    """What may be said of a failed row beside its id."""
    names = ("name", "account_name", "connection_name", "page_id", "user_id", "status")
    told = {name: row.text(name)[:200] for name in names}
    platform = row.text("social_platform_id", "platform_id", "external_api_id")
    return {"platform_id": platform, **{name: value for name, value in told.items() if value}}
