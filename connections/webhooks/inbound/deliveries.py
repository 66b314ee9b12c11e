"""One request as it came, and where things stand in it: the parts that tables of signature schemes speak of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import Any, Protocol
from urllib.parse import parse_qsl

from external_apis.ids import can_name

__all__ = [
    "Body",
    "Delivery",
    "Field",
    "Header",
    "ItemIds",
    "Place",
    "Together",
    "read_all",
    "read_every",
    "read_first",
]

_FORM = "application/x-www-form-urlencoded"
_MAX_DEPTH = 100
_MOST_VALUES = 1_000


@dataclass(frozen=True)
class Delivery:
    """``body`` is raw; ``headers`` have lower-case names; ``url`` is the one that the provider was given, with query.

    Nothing in it is trusted, and its ``repr`` shows none of it.
    """

    body: bytes
    headers: Mapping[str, str]
    url: str = ""
    method: str = "POST"

    def __repr__(self) -> str:
        return f"<Delivery of {len(self.body)} bytes>"

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")

    @cached_property
    def payload(self) -> Any:
        """The JSON of the body, or of a form's field ``payload``; a form as a mapping; None for anything else.

        Of a form's field that comes several times the last one counts.
        """
        parsed = _parse(self.body)
        if parsed is None and self.is_form:
            form = dict(self.form)
            inner = form.get("payload", "").encode("utf-8", "surrogateescape")
            return (_parse(inner) if inner else None) or form
        return parsed

    def as_form(self) -> Delivery:
        """Return it as if its headers said that it is a form, which are not signed."""
        return replace(self, headers={**self.headers, "content-type": _FORM})

    @property
    def is_form(self) -> bool:
        return self.header("content-type").partition(";")[0].strip().lower() == _FORM

    @cached_property
    def form(self) -> Sequence[tuple[str, str]]:
        """The fields of a form in their order, empty ones among them; none for another body."""
        if not self.is_form:
            return ()
        text = self.body.decode("utf-8", "surrogateescape")
        return parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


class Place(Protocol):
    """Where a value stands, such as the event's id."""

    def find(self, delivery: Delivery) -> Iterator[Any]:
        """Yield what stands there, whatever it is: nothing, one value, or several."""
        ...


@dataclass(frozen=True)
class Header:
    """A header, which no signature covers but a scheme's own ``{id}``."""

    name: str

    def find(self, delivery: Delivery) -> Iterator[Any]:
        if value := delivery.header(self.name).strip():
            yield value


@dataclass(frozen=True)
class Body:
    """A value of the JSON body: ``data.id``, ``0.type``; * stands for every item of a list."""

    path: str

    def find(self, delivery: Delivery) -> Iterator[Any]:
        found = _each(delivery.payload, self.path.split("."))
        yield from (value for value in found if value is not None and value != "")


@dataclass(frozen=True)
class ItemIds:
    """The ids of all items of a batch as one, in their order: two batches are the same only if all of them are.

    A batch has none where one of its items has none.
    """

    path: str

    def find(self, delivery: Delivery) -> Iterator[Any]:
        ids = [_text(value) for value in _each(delivery.payload, self.path.split("."))]
        if ids and all(ids):
            yield ids[0] if len(ids) == 1 else f"sha256:{sha256(json.dumps(ids).encode()).hexdigest()}"


@dataclass(frozen=True)
class Field:
    """A field of a form."""

    name: str

    def find(self, delivery: Delivery) -> Iterator[Any]:
        yield from (value for name, value in delivery.form if name == self.name and value)


@dataclass(frozen=True)
class Together:
    """What stands at any of several places."""

    places: Sequence[Place]

    def find(self, delivery: Delivery) -> Iterator[Any]:
        for place in self.places:
            yield from place.find(delivery)


def read_all(places: Sequence[Place], delivery: Delivery) -> tuple[str, ...]:
    """Return the different values of the first place that has any, in order, without what no column could hold."""
    for place in places:
        found = dict.fromkeys(filter(None, map(_text, place.find(delivery))))
        if found:
            return tuple(islice(found, _MOST_VALUES))
    return ()


def read_every(places: Sequence[Place], delivery: Delivery) -> tuple[str, ...] | None:
    """Return the different values of the first place where anything stands; None if one of them cannot be read."""
    for place in places:
        found = dict.fromkeys(map(_text, place.find(delivery)))
        if found:
            texts = tuple(text for text in found if text)
            return texts if len(texts) == len(found) else None
    return ()


def read_first(places: Sequence[Place], delivery: Delivery) -> str:
    """Return the first value of the first place that has any, else an empty text."""
    return next(iter(read_all(places, delivery)), "")


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str:
    """Return a value as a column could hold it; nothing where none could."""
    is_value = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) if is_value and can_name(str(value)) else ""


def _each(value: Any, path: Sequence[str], depth: int = 0) -> Iterator[Any]:
    """Yield what stands at a path, of each item of the lists on its way; None where nothing stands."""
    if not path or depth > _MAX_DEPTH:
        yield None if path else value
        return
    step, *rest = path
    items = value if step == "*" and isinstance(value, list) and value else [_member(value, step)]
    for item in items:
        yield from _each(item, rest, depth + 1)


def _member(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    is_place = step.isascii() and step.isdigit() and len(step) < 7
    return value[int(step)] if isinstance(value, list) and is_place and int(step) < len(value) else None
