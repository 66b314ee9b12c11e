"""From a call's arguments to the request that is to be signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from urllib3.util import parse_url

from connections.client.encoding import CONTENT_TYPES, encode_body, encode_query, encode_text
from connections.client.outgoing import Headers, Outgoing, join_path, refuse
from external_apis.transport import Origin

if TYPE_CHECKING:
    from external_apis.api_config import ApiConfig

__all__ = ["Composer"]

_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))


class Composer:
    """Knows what every request to one provider has in common."""

    def __init__(self, config: ApiConfig) -> None:
        self.origin = Origin.of(config.base_url)
        self._base_path = parse_url(config.base_url).path or ""
        self._encoding = config.request_encoding
        fields = {
            "User-Agent": "external-api-manager",
            "Accept": "application/json, */*;q=0.8",
            "Accept-Encoding": "gzip, deflate",
        }
        self._headers = Headers(fields)
        if config.api_version_header and config.api_version:
            self._headers[config.api_version_header] = config.api_version
        self._headers.add_checked(config.default_headers)

    def compose(  # noqa: PLR0917
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        data: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Outgoing:
        """Return the unsigned request; raises `InvalidInput`."""
        method = method.upper() if isinstance(method, str) else ""
        if method not in _METHODS:
            raise refuse("method", f"is none of {', '.join(sorted(_METHODS))}")
        request = Outgoing(method, self.origin, join_path(self._base_path, path), self._headers.copy())
        if params and (query := encode_query(params)):
            request.add_query(query)
        self._add_body(request, data, json)
        if headers:
            request.headers.add_checked(headers)
        return request

    def _add_body(self, request: Outgoing, data: Any, json: Any) -> None:
        if data is None and json is None:
            return
        if data is not None and json is not None:
            raise refuse("json", "and data cannot both be sent")
        if isinstance(data, (bytes, bytearray, str)):
            request.body = encode_text(data) if isinstance(data, str) else bytes(data)
            request.headers["Content-Type"] = "application/octet-stream"
            return
        encoding = self._encoding if json is None else "json"
        request.body = encode_body(data if json is None else json, encoding)
        request.headers["Content-Type"] = CONTENT_TYPES[encoding]
