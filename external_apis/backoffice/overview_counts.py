"""How many there are of what comes and goes, such as users: notes changes, and reads the number of any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Case, CharField, Count, DateTimeField, F, Func, QuerySet, Value, When

from external_apis.backoffice.models import OverviewCount
from external_apis.backoffice.overview_sums import owned_by
from external_apis.backoffice.user_columns import those_who_are
from external_apis.models import Account
from external_apis.tenancy import Scope

__all__ = ["CONNECTIONS", "USERS", "add_figure", "note_counts", "read_counts"]

USERS, CONNECTIONS = "users", "connections"

_COUNTS = OverviewCount._meta.db_table
_READ = f"""
SELECT moment.place, wanted.figure, (
    SELECT number FROM {_COUNTS} AS row
    WHERE {{owner}} AND row.figure = wanted.figure AND row.since < moment.at ORDER BY row.since DESC LIMIT 1
)
FROM unnest(%s::int[], %s::timestamptz[]) AS moment (place, at) CROSS JOIN unnest(%s::text[]) AS wanted (figure)
"""  # noqa: S608 (our own table's name)


_QUARTER = timedelta(minutes=15)
_JUST_BEFORE = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _users() -> QuerySet[Any]:
    """A superuser is none of a tenant's users, as in the list of them."""
    owner = Case(When(those_who_are(is_superuser=True), then=None), default=F("tenant_id"), output_field=CharField())
    return Account.objects.annotate(whose=owner)


_figures: dict[str, Callable[[], QuerySet[Any]]] = {USERS: _users}


def add_figure(name: str, rows: Callable[[], QuerySet[Any]]) -> None:
    """Have something counted that a floor above holds; ``rows`` returns those there are, with ``created_at`` and with
    ``whose``, the tenant whose they are or None. Called by an app that is ready."""
    _figures[name] = rows


def note_counts(now: datetime) -> None:
    """Note of each figure, for each tenant and the whole installation, the number that is another than before.

    The first time what there was before is told by when the rows were made that are still there.
    """
    for figure, rows in _figures.items():
        known: dict[str | None, int] = dict(
            OverviewCount.objects.filter(figure=figure)
            .order_by("tenant_id", "-since")
            .distinct("tenant_id")
            .values_list("tenant_id", "number")
        )
        if not known:
            known = _note_history(figure, rows(), now)
        found: dict[str | None, int] = dict.fromkeys(known, 0)
        for tenant_id, number in rows().order_by().values_list("whose").annotate(number=Count("pk")):
            found[None] = found.get(None, 0) + number
            if tenant_id is not None:
                found[tenant_id] = number
        OverviewCount.objects.bulk_create(
            (
                OverviewCount(tenant_id=tenant_id, figure=figure, since=now, number=number)
                for tenant_id, number in found.items()
                if number != known.get(tenant_id)
            ),
            ignore_conflicts=True,
        )


def read_counts(scope: Scope, moments: Sequence[datetime]) -> list[dict[str, int]]:
    """Return the number of each figure right before each moment; nothing of the sandbox. One query."""
    found = [dict.fromkeys(_figures, 0) for _ in moments]
    if scope.is_sandbox:
        return found
    owner, values = owned_by(scope)
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(owner=owner), [*values, list(range(len(moments))), list(moments), list(_figures)])
        for place, figure, number in cursor.fetchall():
            found[place][figure] = number or 0
    return found


def _note_history(figure: str, rows: QuerySet[Any], now: datetime) -> dict[str | None, int]:
    """Write how the rows came, to the quarter of an hour, and return what that adds up to.

    Days begin where a quarter does, in whatever zone: what came in one counts right before the next.
    """
    began = Func(Value(_QUARTER), F("created_at"), Value(_EPOCH), function="date_bin", output_field=DateTimeField())
    came = rows.order_by().annotate(quarter=began).values_list("quarter", "whose")
    counts: dict[str | None, int] = {}
    noted: dict[tuple[str | None, datetime], int] = {}
    for quarter, tenant_id, number in came.annotate(number=Count("pk")).order_by("quarter"):
        for owner in {tenant_id, None}:
            counts[owner] = counts.get(owner, 0) + number
            noted[owner, min(quarter + _QUARTER - _JUST_BEFORE, now)] = counts[owner]
    OverviewCount.objects.bulk_create(_rows(figure, noted), batch_size=5_000, ignore_conflicts=True)
    return counts


def _rows(figure: str, noted: dict[tuple[str | None, datetime], int]) -> Iterator[OverviewCount]:
    for (tenant_id, since), number in noted.items():
        yield OverviewCount(tenant_id=tenant_id, figure=figure, since=since, number=number)
