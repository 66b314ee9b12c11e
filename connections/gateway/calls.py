"""A request that may pass, and the client that it passes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from external_apis import request_context

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
        )

    def show(self) -> str:
        """Return it as a curl command without a secret."""
        return self.client.show(self.method, self.route.path, self.route.query, headers=self.headers, body=self.body)
