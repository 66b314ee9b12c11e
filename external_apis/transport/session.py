"""The guarded transport with a face of requests."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from external_apis.transport.exchange import shared_transport
from external_apis.transport.origin import Origin

if TYPE_CHECKING:
    from external_apis.egress import Policy

__all__ = ["GuardedSession"]

_TIMEOUT_SECONDS = 30.0


class GuardedSession(requests.Session):
    """A `requests.Session` over the guarded transport, for code that insists on one.

    It follows no redirect, reads no environment, always verifies TLS, gives every call a total time-out (30 s unless
    one is passed; of a pair, the sum) and raises the product's errors, whose messages hold no URL.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        super().__init__()
        self.trust_env = False
        adapter = _GuardedAdapter(policy)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, policy: Policy | None) -> None:
        super().__init__()
        self._policy = policy

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, *, timeout: Any = None, **kwargs: Any
    ) -> requests.Response:
        origin = Origin.of(request.url or "")
        seconds = sum(part or 0 for part in timeout) if isinstance(timeout, tuple) else timeout
        body = request.body.encode() if isinstance(request.body, str) else request.body
        headers = {
            name: value if isinstance(value, str) else value.decode("latin-1")
            for name, value in request.headers.items()
            if name.lower() not in ("content-length", "host")
        }
        answer = shared_transport(self._policy).send(
            origin,
            request.method or "GET",
            self.request_url(request, None),
            headers,
            body,
            deadline=monotonic() + (seconds or _TIMEOUT_SECONDS),
        )
        raw = HTTPResponse(
            body=b"", headers=answer.headers, status=answer.status, reason=answer.reason, preload_content=False
        )
        response = self.build_response(request, raw)
        response._content = answer.body  # noqa: SLF001
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        return response
