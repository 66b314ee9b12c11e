"""A request that may pass, and the client that it passes through."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connections.gateway.allowance import check_allowed
from connections.gateway.bulkhead import bulkhead
from connections.gateway.paths import read_route
from external_apis import request_context
from external_apis.errors import CallError, Forbidden, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from connections.client import ApiClient
    from connections.client.passage import PassedAnswer, Passing
    from connections.gateway.paths import Route
    from external_apis.transport import Upload

__all__ = ["BODY_SECONDS", "GatewayCall", "berthed"]

BODY_SECONDS = 3600.0
"""How long a body may take, in either direction."""


@dataclass(frozen=True, slots=True)
class GatewayCall:
    """``headers`` are those that travel; the credential is added by the client."""

    client: ApiClient
    method: str
    route: Route
    headers: Mapping[str, str]
    body: bytes | Upload | None

    def send(self, passing: Passing | None = None) -> PassedAnswer:
        """Make the call; raises as `ApiClient.exchange` does."""
        return self.client.exchange(
            self.method,
            self.route.path,
            self.route.query,
            headers=self.headers,
            body=self.body,
            request_id=request_context.current().request_id,
            body_seconds=BODY_SECONDS,
            passing=passing,
            may_follow=self._may_follow,
        )

    def _may_follow(self, method: str, target: str) -> bool:
        """Tell whether the provider may redirect there, with its credential: where the caller could have gone."""
        base, path = self.client.base_path.rstrip("/"), target.partition("?")[0]
        if path != base and not path.startswith(f"{base}/"):
            return False
        try:
            below = read_route(path.removeprefix(base), "", "").path
            check_allowed(self.client.target.config.proxy, method, below)
        except (Forbidden, InvalidInput):
            return False
        return True

    def show(self) -> str:
        """Return it as a curl command without a secret."""
        return self.client.show(self.method, self.route.path, self.route.query, headers=self.headers, body=self.body)


@contextmanager
def berthed(connection_id: str) -> Iterator[Callable[[], None]]:
    """Take one of the places for calls through a connection, and hand out what gives it back when the answer has ended.

    Where the block fails that is done at once, and a `CallError` tells the request it is of. Raises `TooManyCalls`.
    """
    berth = bulkhead().enter(connection_id)
    try:
        yield berth.leave
    except BaseException as error:
        berth.leave()
        if isinstance(error, CallError) and not error.request_id:  # a body broke off, when the client had done its part
            error.request_id = error.details["request_id"] = request_context.current().request_id
        raise
