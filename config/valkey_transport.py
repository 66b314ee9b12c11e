"""The broker's transport: a worker whose Valkey is away for a moment closes its channels, and lives on."""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import redis as kombu_redis

__all__ = ["Transport"]


class _Channel(kombu_redis.Channel):
    def _connparams(self, asynchronous: bool = False) -> Any:
        # A channel that could not be closed, since the server is away, is closed again once its connection is gone; for
        # the messages that it has not acknowledged kombu 5.7 then asks that for its address, and the worker ends.
        if self.connection.client is None:
            raise redis.ConnectionError("The channel's connection was closed.")
        return super()._connparams(asynchronous)  # type: ignore[misc]  # kombu has no types


class Transport(kombu_redis.Transport):
    """kombu's own for ``redis://`` and ``rediss://``, but for how lost channels end."""

    Channel = _Channel
