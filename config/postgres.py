"""Connections to a PostgreSQL that may stop answering: no request waits for it for ever."""

from __future__ import annotations

from typing import Any

import psycopg

__all__ = ["CONNECT_SECONDS", "STATEMENT_MS", "BoundedConnection", "options"]

CONNECT_SECONDS = 5
STATEMENT_MS = 10_000
"""After which the server itself breaks a statement off."""
_ANSWER_SECONDS = STATEMENT_MS / 1000 + 2
# Between two looks for Ctrl-C, as psycopg has it.
_INTERVAL_SECONDS = 0.1


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up a server that answers nothing, not even that the statement was broken off.

    A server that is frozen, and not gone, still acknowledges every packet: neither the server's own limit nor TCP's
    notices. Raises `psycopg.OperationalError`, and the connection is closed, because nobody knows its state.
    """

    def wait(self, gen: Any, interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, _ANSWER_SECONDS if timeout is None else timeout)
        except psycopg.OperationalError:
            if timeout is None and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


def options(given: str = "") -> dict[str, Any]:
    """Return libpq's settings of a connection; ``given`` are the options of the URL, which go before ours."""
    return {
        "connect_timeout": CONNECT_SECONDS,
        "options": f"-c statement_timeout={STATEMENT_MS} {given}".strip(),
        # For a host that is gone without a word; libpq leaves them out on a UNIX socket.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
