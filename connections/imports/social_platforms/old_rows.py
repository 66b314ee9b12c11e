"""Rows of the two old tables as they come, and what is read of them: names, times, owners and tokens.

The columns are seed 000's fields and those of the public Medusa modules: ``social_platform`` (id, name, category,
auth_type, base_url, description, api_config, status, metadata, and the tokens themselves within ``api_config`` where
there was one account for each platform) and ``social_platform_account`` (tokens in columns or in ``credentials``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from django.utils.dateparse import parse_datetime

from connections.imports.social_platforms.encryption_keys import OldKeys
from connections.imports.social_platforms.refusals import of_one_row, refused
from connections.imports.social_platforms.secret_values import Parted, part
from connections.imports.social_platforms.spellings import is_nothing, truth
from external_apis import json_input
from external_apis.errors import InvalidInput
from external_apis.time_input import bounded

__all__ = ["NO_TIME", "UNREADABLE", "OldRow", "named", "read_row", "read_time"]

NO_TIME = "with times that are none"
UNREADABLE = "that cannot be read"
NO_TRUTH = "that may be switched off or not"
ODD_COLUMN = "with an owner or a platform that is no text"
_JSON = re.compile(r"\s*(?:[\[{\"]|null\s*$)")
_AS_WRITTEN = frozenset({
    "status", "sales_channel_id", "tenant_id", "partner_id", "user_id", "user_email",
    "social_platform_id", "platform_id", "external_api_id",
})  # fmt: skip
"""Whoever is called "none" is not nobody: the row would be everybody's, or active."""
_LONGEST_ID = 200
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_OWN_COLUMNS = ("credentials", "api_config")
_JSON_COLUMNS = (*_OWN_COLUMNS, "provider_data", "metadata")
_COLUMNS = frozenset(
    {
        *("sales_channel_id", "partner_id", "user_id", "user_email", "status", "is_active", "deleted_at", "updated_at"),
        *("social_platform_id", "platform_id", "external_api_id"),
    }
)
"""What decides about a row. It is read of its columns alone and as it stands there: what a vendor answered once is in
the JSON beside them, and must neither name an owner nor, by repeating one as a token, take it away."""
_SECONDS_UNTIL = 100_000_000_000
"""Numbers above it are milliseconds since 1970."""


@dataclass(frozen=True)
class OldRow:
    """One row, its secrets taken out. ``table`` is ``social_platform`` or ``social_platform_account``."""

    table: str
    id: str
    parted: Parted = field(repr=False)
    columns: Mapping[str, Any] = field(repr=False)

    @property
    def source_key(self) -> str:
        return f"{self.table}:{self.id}"

    @cached_property
    def _places(self) -> list[Mapping[str, Any]]:
        return self._within(_JSON_COLUMNS)

    @cached_property
    def _own_places(self) -> list[Mapping[str, Any]]:
        return self._within(_OWN_COLUMNS)

    def _within(self, names: Iterable[str]) -> list[Mapping[str, Any]]:
        columns = (self.plain.get(name) for name in names)
        return [self.plain, *(column for column in columns if isinstance(column, dict))]

    @property
    def plain(self) -> Mapping[str, Any]:
        return self.parted.plain

    def told(self, *, but: Collection[str]) -> dict[str, Any]:
        """Return what the row says that is not empty, without some columns."""
        return {name: value for name, value in self.plain.items() if name not in but and value not in _EMPTY}

    def own(self, *names: str) -> Any:
        """Return the first value that is not empty under these names: of the row itself, then of its credentials, but
        not of what the vendor answered."""
        return _first(self._own_places, names)

    def own_text(self, *names: str) -> str:
        """The same as text without surrounding space, empty where there is none; numbers are written out."""
        return _text(self.own(*names))

    def text(self, *names: str) -> str:
        """Such a text of anywhere in the row: a name, the id of a page."""
        return _text(_first(self._places, names))

    def column(self, *names: str) -> str:
        """Such a text of one of the row's `columns`. Raises `InvalidInput` for one that is neither empty nor a text."""
        for name in names:
            value = self.columns.get(name)
            if value in _EMPTY or (isinstance(value, str) and not value.strip()):
                continue
            if not isinstance(value, str | int) or isinstance(value, bool):
                raise refused(ODD_COLUMN, f"{name} is no text")
            return str(value).strip()
        return ""

    def moment(self, *names: str) -> datetime | None:
        """Return the same as `own` as a time. Raises `InvalidInput` for what is none."""
        value = self.own(*names)
        try:
            return None if value is None else read_time(value)
        except ValueError as error:
            raise refused(NO_TIME, f"{names[0]} {error}") from None

    @property
    def is_switched_off(self) -> bool:
        """Raises `InvalidInput` where the row's ``is_active`` is neither true nor false: nobody may guess that."""
        try:
            return truth(self.columns.get("is_active")) is False
        except ValueError as error:
            raise refused(NO_TRUTH, f"is_active {error}") from None

    @property
    def is_deleted(self) -> bool:
        return self.columns.get("deleted_at") not in _EMPTY

    @property
    def version(self) -> str:
        """What tells one state of the row from another, in its own words."""
        value = self.columns.get("updated_at")
        try:
            return read_time(value).isoformat()
        except ValueError:
            return str(value or "")[:64]


@of_one_row
def read_row(table: str, raw: Mapping[str, Any], keys: OldKeys) -> OldRow:
    """Take a row apart. Raises `InvalidInput` for one that PostgreSQL could not hold, or that has no id.

    JSON columns may be text, as they are in CSV, and where the old table's columns were.
    """
    row = {name: _as_json(name, value) if name in _JSON_COLUMNS else value for name, value in raw.items()}
    json_input.check(row)
    columns = {
        name: None if name not in _AS_WRITTEN and is_nothing(value) else value
        for name, value in row.items()
        if name in _COLUMNS
    }
    return OldRow(table, _row_id(row), part(row, keys), columns)


def _as_json(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not _JSON.match(value):
        return value
    try:
        return _as_json(name, json.loads(value))  # written out twice by some
    except (ValueError, RecursionError):
        if value.lstrip()[0] == '"':
            return value
        raise refused(UNREADABLE, f"{name} is no JSON that can be read") from None


def named(raw: Mapping[str, Any], position: Mapping[str, Any]) -> str:
    """Return what a row that cannot be read is told by: its id, else where it stands."""
    value = raw.get("id")
    return str(value)[:_LONGEST_ID] if isinstance(value, str | int) and value else str(position)


def _first(places: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Any:
    found = (place[name] for place in places for name in names if name in place)
    return next((value for value in found if value not in _EMPTY), None)


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _row_id(raw: Mapping[str, Any]) -> str:
    """Return a row's id as text. Raises `InvalidInput` for a row without one."""
    text = _text(raw.get("id"))
    if not text or len(text) > _LONGEST_ID:
        raise InvalidInput("the row has no id")
    return text


def read_time(value: Any) -> datetime:
    """Read a time as PostgreSQL, JavaScript or an OAuth answer writes one. Raises `ValueError`.

    Without a zone it is UTC; a number counts seconds or milliseconds since 1970.
    """
    if isinstance(value, str) and re.fullmatch(r"\d{9,15}", value):
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bounded(_since_1970(value))
    if isinstance(value, str):
        # PostgreSQL writes an offset of whole hours as +00, which is no time for Django.
        value = parse_datetime(re.sub(r"([+-]\d\d)$", r"\1:00", value.strip()) if ":" in value else value)
    if not isinstance(value, datetime):
        raise ValueError("is no time")  # noqa: TRY004 (of whoever wrote the row)
    return bounded(value if value.tzinfo else value.replace(tzinfo=UTC))


def _since_1970(number: float) -> datetime:
    try:
        seconds = number / 1000 if abs(number) > _SECONDS_UNTIL else number
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("is no time") from None
