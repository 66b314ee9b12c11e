"""One request to a provider's OAuth endpoint: over the guarded transport, under a deadline, no redirect followed.

A redirect would take the client's secret along (a 307 was seen to do just that), so it counts as no answer.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from time import monotonic
from typing import Any, Literal
from urllib.parse import quote_plus, urlencode

from urllib3.util import parse_url

from external_apis.errors import BadAnswer, CallTimeout, ConnectFailed, EgressRefused, TokenEndpointFailed
from external_apis.transport import Answer, Origin, shared_transport

__all__ = ["DEADLINE_SECONDS", "basic", "post", "send"]

DEADLINE_SECONDS = 20.0
_LONGEST_ANSWER = 1_048_576
_USER_AGENT = "external-api-manager"


def post(
    url: str,
    fields: Mapping[str, str],
    *,
    encoding: Literal["form", "json"] = "form",
    authorization: str | None = None,
    deadline: float | None = None,
) -> Answer:
    """Send fields and return the answer, whatever its status; raises `TokenEndpointFailed`."""
    is_json = encoding == "json"
    body = json.dumps(dict(fields)) if is_json else urlencode(fields)
    headers = {"Content-Type": "application/json" if is_json else "application/x-www-form-urlencoded"}
    if authorization is not None:
        headers["Authorization"] = authorization
    return send("POST", url, headers, body.encode(), deadline=deadline)


def send(
    method: str, url: str, headers: Mapping[str, Any], body: bytes | None, *, deadline: float | None = None
) -> Answer:
    """Send a request whose URL, headers and body are finished; ``deadline`` is on the clock of `time.monotonic`.

    Raises `TokenEndpointFailed`, which tells whether the provider may have acted.
    """
    try:
        return shared_transport().send(
            Origin.of(url),
            method,
            parse_url(url).request_uri,
            {"Accept": "application/json", "User-Agent": _USER_AGENT, **headers},
            body,
            deadline=monotonic() + DEADLINE_SECONDS if deadline is None else deadline,
            max_body_bytes=_LONGEST_ANSWER,
        )
    except (ConnectFailed, EgressRefused) as error:
        raise TokenEndpointFailed(error.message) from None
    except (CallTimeout, BadAnswer) as error:
        raise TokenEndpointFailed(error.message, may_have_happened=error.may_have_happened) from None


def basic(client_id: str, client_secret: str) -> str:
    """Return the header of a client that proves itself by HTTP Basic, both parts form-encoded (RFC 6749 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
