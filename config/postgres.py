"""Connections to a PostgreSQL that may stop answering: nobody waits for ever, and few ask whether it still does."""

from __future__ import annotations

import select
from time import monotonic
from typing import Any, ClassVar

import psycopg

__all__ = ["CONNECT_SECONDS", "SERVING_STATEMENT_MS", "BoundedConnection", "bounded", "options"]

CONNECT_SECONDS = 5
SERVING_STATEMENT_MS = "10000"
"""The limit of a statement in web and worker processes, as the environment variable DATABASE_STATEMENT_MS has it."""
_GRACE_SECONDS = 2
# Between two looks for Ctrl-C, as psycopg has it.
_INTERVAL_SECONDS = 0.1
_TRUSTED_SECONDS = 1.0


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up a server that answers nothing for ``answer_seconds``, not even that the statement was broken off.

    A server that is frozen, and not gone, still acknowledges every packet: neither the server's own limit nor TCP's
    notices. Raises `psycopg.OperationalError`, and the connection is closed, because nobody knows its state.
    """

    answer_seconds: ClassVar[float] = 12
    _answered_at = float("-inf")

    def execute(self, query: Any, *arguments: Any, **options: Any) -> psycopg.Cursor[Any]:
        """Answer the empty question, by which the pool finds out whether a connection still works, without the server.

        That is, of one that answered within the last second and was not ended since, which its socket tells. Asked
        each time, it takes a request as long as its statement.
        """
        if query == "" and self._is_trusted():
            return self.cursor()
        return super().execute(query, *arguments, **options)

    def _is_trusted(self) -> bool:
        if self.closed or monotonic() - self._answered_at > _TRUSTED_SECONDS:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return not poll.poll(0)

    def wait(self, gen: Any, interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> Any:
        try:
            answer = super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except psycopg.OperationalError:
            if timeout is None and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise
        self._answered_at = monotonic()
        return answer


def bounded(statement_ms: int) -> type[BoundedConnection]:
    """Return the connection class for a limit: the server has two seconds more to say that it broke a statement off."""
    return type("BoundedConnection", (BoundedConnection,), {"answer_seconds": statement_ms / 1000 + _GRACE_SECONDS})


def options(given: str = "", statement_ms: int = 0) -> dict[str, Any]:
    """Return libpq's settings of a connection; ``given`` are the options of the URL, which go before ours.

    ``statement_ms`` is when the server itself breaks a statement off, 0 never.
    """
    return {
        "connect_timeout": CONNECT_SECONDS,
        "options": f"-c statement_timeout={statement_ms} {given}".strip(),
        # For a host that is gone without a word; libpq leaves them out on a UNIX socket.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
