"""How old databases are reached: URLs taken apart so that no part of a password counts as a host, and is shown."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

from external_apis.errors import InvalidInput

__all__ = ["KEEPALIVES", "parts_of", "without_password"]

KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Parameters of a connection, by which a host that is gone is noticed, also in the middle of an answer."""

_SCHEMES = ("postgresql://", "postgres://")
_PORTS = re.compile(r"\d{0,5}(?:,\d{0,5})*")
_LONG_ENOUGH = 6


def parts_of(url: str) -> dict[str, str]:
    """Return what libpq reads in a URL.

    A password with an ``@`` or a ``/`` that is not percent-encoded ends too early, and the rest of it counts as host,
    port or database. Raises `InvalidInput`, which repeats nothing, for such a URL and for what is no URL.
    """
    try:
        # What psycopg says quotes the URL, and with it the password.
        parts = conninfo_to_dict(url) if url.startswith(_SCHEMES) and "\0" not in url else {}
    except psycopg.Error:
        parts = {}
    if not parts:
        raise InvalidInput("The database URL is no URL such as postgresql://user@host:5432/name.")
    found = {name: str(value) for name, value in parts.items() if value is not None}
    hosts, name = found.get("host", ""), found.get("dbname", "")
    is_socket = hosts.startswith("/")
    if (
        "@" in hosts + name
        or "/" in name
        or ("/" in hosts and not is_socket)
        or not _PORTS.fullmatch(found.get("port", ""))
    ):
        raise InvalidInput(
            "The database URL has an @ or a / where none belongs: percent-encode those of the password (%40, %2F)."
        )
    return found


def without_password(text: str, password: str) -> str:
    """Return a message of the database's without the password; a short one is looked for as a word of its own."""
    if not password:
        return text
    pattern = re.escape(password) if len(password) >= _LONG_ENOUGH else rf"(?<!\w){re.escape(password)}(?!\w)"
    return re.sub(pattern, "••••", text)
