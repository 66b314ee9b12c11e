"""A request before it is sent: what schemes sign, free of any HTTP library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from connections.wire.headers import check_headers
from external_apis.transport import Origin, Upload

__all__ = ["Headers", "Outgoing"]


class Headers:
    """Header fields, one value a name; names are compared without case, as RFC 9110 has it."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        self._fields: dict[str, tuple[str, str]] = {}
        for name, value in (fields or {}).items():
            self[name] = value

    def __setitem__(self, name: str, value: str) -> None:
        self._fields[name.lower()] = (name, value)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._fields

    def get(self, name: str) -> str | None:
        found = self._fields.get(name.lower())
        return found[1] if found else None

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._fields.pop(name.lower(), None)

    def keep(self, names: frozenset[str]) -> None:
        self._fields = {key: item for key, item in self._fields.items() if key in names}

    def add_checked(self, fields: Mapping[str, str]) -> None:
        """Add a caller's fields; raises `InvalidInput` for one that HTTP cannot carry or that the transport sets."""
        check_headers(fields)
        for name, value in fields.items():
            self[name] = value

    def copy(self) -> Headers:
        twin = Headers()
        twin._fields = self._fields.copy()
        return twin

    def as_dict(self) -> dict[str, str]:
        return dict(self._fields.values())


@dataclass(slots=True, repr=False)
class Outgoing:
    """``target`` is path and query as they are sent, percent-encoded; ``body`` is what is sent, byte for byte.

    An ``upload`` is sent in the body's place, piece by piece.
    """

    method: str
    origin: Origin
    target: str
    headers: Headers = field(default_factory=Headers)
    body: bytes | None = None
    upload: Upload | None = None

    @property
    def url(self) -> str:
        return f"{self.origin}{self.target}"

    @property
    def can_be_sent(self) -> bool:
        """Whether there is no upload that has been read and cannot be read again."""
        return self.upload is None or self.upload.rewind()

    def copy(self) -> Outgoing:
        return Outgoing(self.method, self.origin, self.target, self.headers.copy(), self.body, self.upload)

    def add_query(self, encoded: str) -> None:
        self.target += ("&" if "?" in self.target else "?") + encoded

    def __repr__(self) -> str:  # a query or a header may hold a key
        return f"<Outgoing {self.method} {self.origin}>"
