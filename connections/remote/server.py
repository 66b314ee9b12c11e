"""The way to the server: one origin, one key, bounded answers, and no redirect that could carry the key elsewhere."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from connections.remote.refusals import refusal_of
from connections.wire.arguments import refuse
from external_apis.errors import ApiManagerError, BadAnswer, CallTimeout, ConnectFailed, ServiceUnavailable

__all__ = ["API", "Server", "read_body", "reference_path"]

API = "/api/external"

_CONNECT_SECONDS = 5.0
_WAITS_SECONDS = (0.2, 1.0)
_MAX_ANSWER_BYTES = 1024 * 1024
_PIECE_BYTES = 65_536
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


class Server:
    """Asks one installation with one key; safe to share between threads. Printed it names the origin alone."""

    def __init__(
        self,
        base_url: str | None = None,
        key: str | None = None,
        *,
        ca_file: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take what is not given from ``EAM_URL``, ``EAM_KEY`` and ``EAM_CA_FILE``. Raise `InvalidInput`.

        The environment's proxies and ``.netrc`` are not looked at: the key goes to the server and nowhere else.
        """
        self.url = _read_url(base_url or os.environ.get("EAM_URL", ""))
        key = key or os.environ.get("EAM_KEY", "")
        if not _KEY.fullmatch(key):
            raise refuse("key", "is missing (EAM_KEY), or holds characters that an HTTP header cannot carry")
        self._auth = _Bearer(key)
        self._sleep = sleep
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or os.environ.get("EAM_CA_FILE") or True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"User-Agent": "external-api-manager", "Accept": "application/json, */*;q=0.8"})

    def ask(self, path: str, params: Mapping[str, Any], *, timeout_seconds: float = 90.0) -> dict[str, Any]:
        """Return the data of one of the server's own answers; raises its refusal, or as `send` does."""
        deadline = time.monotonic() + timeout_seconds
        response = self.send("GET", path, params=params, deadline=deadline)
        body = read_body(response, _MAX_ANSWER_BYTES, deadline)
        if response.status_code == 200:
            try:
                answer = response.json()
            except (ValueError, RecursionError):
                answer = None
            if isinstance(answer, dict) and isinstance(answer.get("data"), dict):
                data: dict[str, Any] = answer["data"]
                return data
        refusal = refusal_of(response.headers, body) if response.status_code >= 400 else None
        raise refusal or self.stranger(response.status_code)

    def stranger(self, status: int) -> ServiceUnavailable:
        """Return the error for an answer that is none of the server's: something before it spoke."""
        return ServiceUnavailable(f"{self.url} answered with status {status}, and not as it does.")

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_seconds: float | None = None,
        deadline: float,
    ) -> requests.Response:
        """Send one request and return the answer with its body unread.

        ``path`` is percent-encoded, ``deadline`` on the clock of `time.monotonic`. What could not connect is tried
        twice more. Raises `ConnectFailed`, `CallTimeout`, and `BadAnswer` for an answer that breaks off.
        """
        for wait in (*_WAITS_SECONDS, None):
            left = max(deadline - time.monotonic(), 0.001)
            read_seconds = min(left, timeout_seconds or left)
            try:
                response = self._session.request(
                    method,
                    self.url + path,
                    params=params,
                    headers=headers,
                    data=body,
                    auth=self._auth,
                    timeout=(min(_CONNECT_SECONDS, left), read_seconds),
                    allow_redirects=False,
                    stream=True,
                )
            except requests.RequestException as error:
                if wait is None or not _is_unconnected(error) or time.monotonic() + wait >= deadline:
                    raise self._explain(error) from None
            else:
                response.request.headers.pop("Authorization", None)  # whoever prints the answer prints no key
                return response
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _explain(self, error: requests.RequestException) -> ApiManagerError:
        if _is_unconnected(error):
            return ConnectFailed(f"{self.url} cannot be reached.")
        if isinstance(error, requests.exceptions.SSLError):
            return ConnectFailed(f"{self.url} shows no certificate that counts here.")
        if isinstance(error, requests.Timeout):
            return CallTimeout(f"{self.url} did not answer in time.", may_have_happened=True)
        return BadAnswer(f"{self.url} broke off ({type(error).__name__}).", may_have_happened=True)

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Server holds a key and is not pickled.")


class _Bearer(AuthBase):
    """Given as ``auth``, so that nothing else takes its place."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def __repr__(self) -> str:
        return "<_Bearer>"


def read_body(response: requests.Response, most_bytes: int, deadline: float) -> bytes:
    """Read and unpack a body into the response, and return it.

    Raises `BadAnswer` for one that is longer or breaks off, and `CallTimeout` for one that has not come in time,
    however slowly it drips.
    """
    body = b""
    try:
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > most_bytes:
                raise BadAnswer(f"The answer is longer than {most_bytes:,} bytes.", may_have_happened=True)
            if time.monotonic() > deadline:
                raise CallTimeout("The answer did not come to its end in time.", may_have_happened=True)
    except ReadTimeoutError:
        raise CallTimeout("The answer did not come to its end in time.", may_have_happened=True) from None
    except (HTTPError, OSError) as error:
        raise BadAnswer(f"The answer broke off ({type(error).__name__}).", may_have_happened=True) from None
    finally:
        response.close()
    # This is what requests itself does after reading one.
    response._content = body  # noqa: SLF001
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
    return body


def reference_path(reference: str, page: str) -> str:
    """Return the path of a page about a connection. Raises `InvalidInput` for what names none."""
    parts = reference.split("/") if isinstance(reference, str) else []
    if not 1 <= len(parts) <= 2 or any(part in ("", ".", "..") for part in parts):
        raise refuse("reference", "is neither provider/connection, nor a provider's slug, nor a connection's id")
    try:
        return f"{API}/connections/{quote(reference, safe='/')}/{page}"
    except UnicodeEncodeError:
        raise refuse("reference", "holds characters that UTF-8 cannot carry") from None


def _read_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.query or parts.fragment or not url.isprintable():
        raise refuse("base_url", "is no http or https URL of the server, without user, query and fragment (EAM_URL)")
    return url.rstrip("/")


def _is_unconnected(error: requests.RequestException) -> bool:
    """Tell whether nothing can have been sent, and another attempt may find somebody."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, NewConnectionError)
