"""Text that need not be UTF-8: its other bytes are kept, as lone surrogates, so that they are one row's problem."""

from __future__ import annotations

import re

from psycopg.adapt import Buffer, Loader

__all__ = ["AnyText", "is_text"]

_SURROGATE = re.compile("[\ud800-\udfff]")


class AnyText(Loader):
    """Loads a value as PostgreSQL writes it, whatever its type; a database in SQL_ASCII takes any bytes for text."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "surrogateescape")


def is_text(value: object) -> bool:
    """Whether a value holds no byte that is no UTF-8; Python keeps those of the environment in the same way."""
    return not isinstance(value, str) or value.isascii() or _SURROGATE.search(value) is None
