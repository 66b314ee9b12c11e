"""Opened connections that this process keeps, so that `get_api_client` asks the database once and not for every call.

Only what `changes.Watch` vouches for is used, and when Valkey is away the database is asked each time. News may be
lost or never sent, as with `QuerySet.update` or SQL: so the watch's thread compares what is kept with the rows'
versions in the database twice a second, off the callers' path. Either way a change or a revocation is seen within a
second. A new row that changes what a reference means, and that nobody announced, is seen within `_AGE_SECONDS`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from django.db import connection
from django.utils import timezone

from connections import lookup, versions
from connections.client import ApiClient, Target
from connections.models import ExternalApiConnection
from connections.oauth.clients import make_client
from connections.oauth.refresh import ensure_fresh, fresh_until, has_to_be_fresh
from connections.opening import DecryptedConnection, can_be_renewed, check_usable, open_connection, target_of
from external_apis import changes
from external_apis.errors import NotFound
from external_apis.tenancy import Scope

__all__ = ["lend_client", "open_client"]

logger = logging.getLogger(__name__)

_MOST = 1_000
_AGE_SECONDS, _IDLE_SECONDS, _COMPARE_SECONDS = 5.0, 60.0, 0.4


class _Key(NamedTuple):
    """All that decides which connection a reference means."""

    reference: str
    environment: str | None
    tenant: str | None
    partner: str | None
    user: str | None


@dataclass(frozen=True, slots=True, repr=False)
class _Kept:
    connection: DecryptedConnection
    target: Target
    client: ApiClient
    names: frozenset[str]
    versions: str
    until: float
    fresh_until: datetime | None
    """When its token is to be looked at again."""


class _Shelf:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[_Key, _Kept] = {}
        self.watch = changes.Watch(self.forget, self._is_used)
        self._used_at = self._compared_at = 0.0
        self._is_away = False  # the database: one line tells of that

    def find(self, key: _Key) -> _Kept | None:
        self._used_at = monotonic()
        found = self._kept.get(key)
        return found if found is not None and found.until > self._used_at and self.watch.is_current() else None

    def keep(self, key: _Key, kept: _Kept, news_count: int) -> None:
        """Keep what was read since ``news_count``, unless there has been news."""
        with self._lock:
            if self.watch.news_count != news_count:
                return
            if len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = kept

    def forget(self, names: Collection[str] | None) -> None:
        with self._lock:
            if names is None:
                self._kept.clear()
            elif self._kept:
                self._kept = {key: kept for key, kept in self._kept.items() if kept.names.isdisjoint(names)}

    def _is_used(self) -> bool:
        """Let go of what is old or changed; tell whether it is worth while to listen for news."""
        now = monotonic()
        if now - self._compared_at >= _COMPARE_SECONDS:
            self._compare()
            self._compared_at = now
        with self._lock:
            if any(kept.until <= now for kept in self._kept.values()):
                self._kept = {key: kept for key, kept in self._kept.items() if kept.until > now}
        return bool(self._kept) or now - self._used_at < _IDLE_SECONDS

    def _compare(self) -> None:
        """Let go of what the database has in another version, and of everything when it does not answer."""
        with self._lock:
            before = dict(self._kept)
        if not before:
            return
        try:
            today = versions.current({kept.connection.id for kept in before.values()})
        except Exception as error:  # whatever it is: what cannot be compared may not be used
            if not self._is_away:
                logger.warning("kept connections cannot be compared with the database (%s)", type(error).__name__)
            self._is_away, today = True, {}
        else:
            self._is_away = False
        finally:
            connection.close()
        with self._lock:
            for key, kept in before.items():
                if self._kept.get(key) is kept and today.get(kept.connection.id) != kept.versions:
                    del self._kept[key]


_shelf = _Shelf()


def open_client(
    reference: str, environment: str | None, tenant: str | None, partner: str | None, user: str | None
) -> ApiClient:
    """Return a client of its own for the caller, from what is kept or from the database (at most two queries).

    A transaction that has changed something itself is answered from the database, and nothing of it is kept.
    """
    kept = _open(_Key(reference, environment, tenant, partner, user))
    return make_client(kept.connection, kept.target)


def lend_client(connection_id: str, scope: Scope) -> tuple[ApiClient, ExternalApiConnection]:
    """Return the client that all callers of a connection share, and its row.

    Raises as `open_client` does; a reference that is no id is not found, and neither is what the scope does not see:
    nothing of it is opened or renewed.
    """
    if not connection_id.startswith("conn_") or "/" in connection_id:
        raise NotFound(f"Connection {connection_id!a} not found")

    def check(row: ExternalApiConnection) -> None:
        if not scope.owns(row) or scope.is_sandbox not in (None, row.external_api.is_sandbox):
            raise NotFound(f"Connection {row.pk} not found")

    kept = _open(_Key(connection_id, None, None, None, None), check)
    return kept.client, kept.connection.row


def _see(_row: ExternalApiConnection) -> None:
    """Whoever names tenant, partner and user sees what is found."""


def _open(key: _Key, check: Callable[[ExternalApiConnection], None] = _see) -> _Kept:
    if changes.is_pending():
        opened, _ = _load(key, check)
        return _keep(key, opened)
    kept = _shelf.find(key)
    if kept is None or (kept.fresh_until is not None and kept.fresh_until <= timezone.now()):
        # Listening comes before reading: news of what is read in between is not missed.
        is_listening = _shelf.watch.start()
        opened, news_count = _load(key, check)
        kept = _keep(key, opened)
        if is_listening:
            _shelf.keep(key, kept, news_count)
    else:
        check(kept.connection.row)
        check_usable(kept.connection.row)
    return kept


def _keep(key: _Key, opened: DecryptedConnection) -> _Kept:
    target, until = target_of(opened), monotonic() + _AGE_SECONDS
    return _Kept(
        opened,
        target,
        make_client(opened, target),
        _names(key, opened),
        versions.take(opened.row),
        until,
        _look_again_at(opened.row),
    )


def _load(key: _Key, check: Callable[[ExternalApiConnection], None]) -> tuple[DecryptedConnection, int]:
    """Load a connection and have its token renewed where that is due; tell how much news there had been before.

    ``check`` raises for a row that the caller may not see, before anything is done with it.
    """
    news_count = _shelf.watch.news_count
    row = _find(key)
    check(row)
    check_usable(row)
    if ensure_fresh(row) is not row:
        news_count = _shelf.watch.news_count
        row = _find(key)
    return open_connection(row), news_count


def _find(key: _Key) -> ExternalApiConnection:
    reference, environment, tenant, partner, user = key
    return lookup.find_by_reference(reference, environment=environment, tenant=tenant, partner=partner, user=user)


def _look_again_at(row: ExternalApiConnection) -> datetime | None:
    """When a kept token enters its margin; where it is used inside of it, because nobody renews it now, its end."""
    if not can_be_renewed(row):
        return None
    return row.credential.expires_at if has_to_be_fresh(row) else fresh_until(row)


def _names(key: _Key, opened: DecryptedConnection) -> frozenset[str]:
    """Whose change may change what the key means or what it opens to; a new provider is announced by its slug."""
    row = opened.row
    owners = (row.tenant_id, row.partner_id, key.tenant, key.partner, key.user)
    slug = key.reference.partition("/")[0]
    return frozenset((row.pk, row.external_api_id, row.external_api.slug, slug, *filter(None, owners)))


def _start_afresh() -> None:
    global _shelf  # noqa: PLW0603
    _shelf.watch.close()
    _shelf = _Shelf()


os.register_at_fork(after_in_child=_start_afresh)
