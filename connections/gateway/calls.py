"""A request that may pass, and the client that it passes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from connections.gateway.allowance import check_allowed
from connections.gateway.paths import read_route
from external_apis import request_context
from external_apis.errors import Forbidden, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connections.client import ApiClient
    from connections.client.passage import PassedAnswer, Passing
    from connections.gateway.paths import Route
    from external_apis.transport import Upload

__all__ = ["BODY_SECONDS", "GatewayCall"]

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
