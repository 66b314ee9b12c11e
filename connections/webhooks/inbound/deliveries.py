"""One request as it came, and where things stand in it: the parts that tables of signature schemes speak of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

    @property
    def is_form(self) -> bool:
        return self.header("content-type").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"

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
        yield from _at(delivery.payload, self.path.split("."))


@dataclass(frozen=True)
class ItemIds:
    """The ids of all items of a batch as one, in their order: two batches are the same only if all of them are."""

    name: str

    def find(self, delivery: Delivery) -> Iterator[Any]:
        items = delivery.payload if isinstance(delivery.payload, list) else []
        ids = [_text(next(_at(item, [self.name]), None)) for item in items]
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


def _at(value: Any, path: Sequence[str], depth: int = 0) -> Iterator[Any]:
    if depth > _MAX_DEPTH:
        return
    if not path:
        if value is not None and value != "":
            yield value
        return
    step, *rest = path
    if step == "*" and isinstance(value, list):
        for item in value:
            yield from _at(item, rest, depth + 1)
    elif isinstance(value, dict):
        yield from _at(value.get(step), rest, depth + 1)
    elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 7 and int(step) < len(value):
        yield from _at(value[int(step)], rest, depth + 1)
