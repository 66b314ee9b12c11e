"""From a call's arguments to the request that is to be signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from connections.client.outgoing import Headers, Outgoing
from connections.wire.arguments import METHODS, check_method, refuse
from connections.wire.encoding import encode_call, encode_query
from connections.wire.paths import fill_path, join_path
from external_apis.api_config import ApiKeyConfig
from external_apis.errors import EgressRefused
from external_apis.transport import Origin, Upload
from external_apis.url_variables import fill_url

if TYPE_CHECKING:
    from external_apis.api_config import ApiConfig

__all__ = ["Composer"]


class Composer:
    """Knows what every request to one provider has in common."""

    def __init__(self, config: ApiConfig, variables: Mapping[str, str] | None = None) -> None:
        """Take the values of the URL variables, which are checked already (`Target.variables`)."""
        variables = variables or {}
        self._declared = {name: variables.get(name) for name in config.url_variables}
        base_url = fill_url(config.base_url, variables)
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
        method = check_method(method)
        target = join_path(self.base_path, fill_path(path, self._declared))
        request = Outgoing(method, self.origin, target, self._headers.copy())
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
        if method not in METHODS:  # in capitals, as HTTP has them
            raise refuse("method", f"is none of {', '.join(sorted(METHODS))}")
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
        body, content_type = encode_call(data, json, self._encoding)
        if content_type:
            request.headers["Content-Type"] = content_type
        if Upload.fits(body):
            request.upload = Upload(body)
        else:
            request.body = body


def _key_in_query(config: ApiConfig) -> str:
    if isinstance(config, ApiKeyConfig) and config.api_key.location == "query":
        return config.api_key.query_name
    return ""
