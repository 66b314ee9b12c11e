"""From a call's arguments to the request that is to be signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from connections.client.outgoing import Headers, Outgoing
from connections.wire.arguments import refuse
from connections.wire.encoding import CONTENT_TYPES, encode_body, encode_query, encode_text
from connections.wire.paths import join_path
from external_apis.api_config import ApiKeyConfig
from external_apis.errors import EgressRefused
from external_apis.transport import Origin, Upload
from external_apis.url_variables import fill_path, fill_url, names_in

if TYPE_CHECKING:
    from external_apis.api_config import ApiConfig

__all__ = ["Composer"]

_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))


class Composer:
    """Knows what every request to one provider has in common."""

    def __init__(self, config: ApiConfig, variables: Mapping[str, str] | None = None) -> None:
        """Take the values of the URL variables, which are checked already (`Target.variables`)."""
        self._variables = variables or {}
        self._declared = frozenset(config.url_variables)
        base_url = fill_url(config.base_url, self._variables)
        self.origin = Origin.of(base_url)
        self.base_path = parse_url(base_url).path or ""
        self._encoding = config.request_encoding
        self._key_name = _key_in_query(config)
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
        if not isinstance(path, str):
            raise refuse("path", "is not text")
        if missing := names_in(path) & self._declared - set(self._variables):
            raise refuse("path", f"needs provider_data.{min(missing)}, which the connection lacks")
        path = fill_path(path, self._variables)
        request = Outgoing(method, self.origin, join_path(self.base_path, path), self._headers.copy())
        if params and (query := encode_query(params)):
            request.add_query(query)
        self._add_body(request, data, json)
        if headers:
            request.headers.add_checked(headers)
        return request

    def compose_passed(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes | Upload | None
    ) -> Outgoing:
        """Return the unsigned request of somebody else, with nothing added but what is configured for every request.

        ``path`` and ``query`` are percent-encoded, and no URL variable is filled in. Raises `InvalidInput`.
        """
        if method not in _METHODS:
            raise refuse("method", f"is none of {', '.join(sorted(_METHODS))}")
        target = join_path(self.base_path, f"{path}?{query}" if query else path)
        request = Outgoing(method, self.origin, self.without_key(target), self._headers.copy())
        # Whoever names no coding may be unable to unpack one.
        request.headers.remove(("Accept", "Accept-Encoding"))
        request.headers["Accept-Encoding"] = "identity"
        request.headers.add_checked(headers)
        request.body, request.upload = (None, body) if isinstance(body, Upload) else (body, None)
        return request

    def compose_url(self, url: str, headers: Mapping[str, str] | None = None) -> Outgoing:
        """Return the unsigned GET of an absolute URL that an answer of the provider named.

        Raises `EgressRefused` when it is not on the provider's origin.
        """
        try:
            parts = parse_url(url)
        except LocationParseError:
            raise EgressRefused("The address that the provider named is not a URL.") from None
        if Origin.of(parts) != self.origin:
            raise EgressRefused(f"{parts.host} is refused: the provider's own origin is {self.origin}.")
        request = Outgoing("GET", self.origin, self.without_key(parts.request_uri), self._headers.copy())
        if headers:
            request.headers.add_checked(headers)
        return request

    def without_key(self, target: str) -> str:
        """Drop a key in the query that the provider echoed: signing adds it again."""
        path, mark, query = target.partition("?")
        if not (mark and self._key_name):
            return target
        kept = [pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != self._key_name]
        return f"{path}?{'&'.join(kept)}" if kept else path

    def _add_body(self, request: Outgoing, data: Any, json: Any) -> None:
        if data is None and json is None:
            return
        if data is not None and json is not None:
            raise refuse("json", "and data cannot both be sent")
        if Upload.fits(data):
            request.upload = Upload(data)
            request.headers["Content-Type"] = "application/octet-stream"
            return
        if isinstance(data, (bytes, bytearray, str)):
            request.body = encode_text(data) if isinstance(data, str) else bytes(data)
            request.headers["Content-Type"] = "application/octet-stream"
            return
        encoding = self._encoding if json is None else "json"
        request.body = encode_body(data if json is None else json, encoding)
        request.headers["Content-Type"] = CONTENT_TYPES[encoding]


def _key_in_query(config: ApiConfig) -> str:
    if isinstance(config, ApiKeyConfig) and config.api_key.location == "query":
        return config.api_key.query_name
    return ""
