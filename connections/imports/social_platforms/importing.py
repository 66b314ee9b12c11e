"""The import as a whole: platforms first, the accounts in their rows, then the table of accounts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from connections.imports.progress import Meter
from connections.imports.social_platforms.account_import import AccountImport, own_accounts
from connections.imports.social_platforms.old_database import ACCOUNTS, PLATFORMS
from connections.imports.social_platforms.platform_import import import_platforms
from connections.imports.social_platforms.sources import Source
from connections.imports.social_platforms.summary import Summary
from connections.imports.social_platforms.work import Work

__all__ = ["import_tables"]

Showing = Callable[[int | None], AbstractContextManager[Meter]]


def import_tables(source: Source, work: Work, show: Showing, stop: Callable[[], bool]) -> Summary:
    """Import everything of a source that is not here yet; a run that is not stored makes nothing (a dry run).

    A run that was broken off goes on behind its last batch. ``show`` is called with the number of accounts, as far as
    it is known. Raises `InvalidInput` and `ServiceUnavailable` where the source cannot be read, `Conflict` where
    somebody else goes on with the run.
    """
    run, summary = work.run, work.summary
    mark = hashlib.sha256(source.description.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if run.position.get("source") != mark:
        run.position = {"source": mark}  # another export: what is here already is recognised by its id
    summary.references = source.references()
    platforms = import_platforms(source.platforms(), work)
    accounts = AccountImport(platforms, work)
    own_after, after = run.position.get(PLATFORMS, {}), run.position.get(ACCOUNTS, {})
    with show(source.count_accounts()) as meter:
        if not stop() and accounts.take(own_accounts(platforms, own_after), PLATFORMS, meter, stop):
            accounts.take(source.accounts(after), ACCOUNTS, meter, stop)
    if work.report.is_written:
        summary.report_path = str(work.report.path)
    return summary
