"""Schemes that sign: something of the request, and the time, goes into what they send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from oauthlib import oauth1
from requests_aws4auth import AWS4Auth

from connections.client.scheme import Scheme
from connections.wire.arguments import refuse
from external_apis.errors import MissingCredential
from external_apis.url_variables import fill_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connections.client.outgoing import Outgoing
    from connections.client.target import Target
    from external_apis.api_config import AwsSigV4Config, HmacConfig, OAuth1Config
    from external_apis.oauth_config import OAuth1 as OAuth1Block

__all__ = ["AwsSigV4", "Hmac", "OAuth1"]

# At DEBUG it writes tokens and what it signs into the log.
logging.getLogger("oauthlib").setLevel(logging.INFO)


class Hmac(Scheme):
    """Seed 004's signature over method, path with query as sent, timestamp and body, as the provider configures it."""

    def read(self, target: Target) -> None:
        self._block = cast("HmacConfig", target.config).hmac
        self._secret = self.pick(target, ("hmac_secret",), self._block.secret).encode()
        self._parts = re.split(r"\{(method|path|timestamp|body)\}", self._block.template)
        self.covers_body = "body" in self._parts[1::2]

    def sign(self, request: Outgoing, now: float) -> None:
        timestamp = str(int(now * 1000 if self._block.timestamp_unit == "milliseconds" else now))
        values = {
            "method": request.method.encode(),
            "path": request.target.encode(),
            "timestamp": timestamp.encode(),
            "body": request.body or b"",
        }
        payload = b"".join(values[part] if odd else part.encode() for odd, part in _alternate(self._parts))
        digest = hmac.new(self._secret, payload, getattr(hashlib, self._block.algorithm)).digest()
        signature = digest.hex() if self._block.encoding == "hex" else base64.b64encode(digest).decode()
        request.headers[self._block.timestamp_header] = timestamp
        request.headers[self._block.signature_header] = f"{self._block.signature_prefix}{signature}"


class OAuth1(Scheme):
    """RFC 5849 with a stored token; nonce and timestamp are new in every request."""

    def read(self, target: Target) -> None:
        block = cast("OAuth1Config", target.config).oauth1
        self._client = oauth1.Client(
            self.pick(target, ("consumer_key",), block.consumer_key),
            **self._consumer_proof(target, block),
            resource_owner_key=self.pick(target, ("oauth_token",)),
            resource_owner_secret=self.pick(target, ("oauth_token_secret",)),
            signature_method=block.signature_method,
        )

    def _consumer_proof(self, target: Target, block: OAuth1Block) -> dict[str, str]:
        if block.signature_method != "RSA-SHA1":
            return {"client_secret": self.pick(target, ("consumer_secret",), block.consumer_secret)}
        name = "consumer_private_key"
        key = self.pick(target, (name,), block.consumer_private_key)
        try:
            is_rsa = isinstance(load_pem_private_key(key.encode(), None), RSAPrivateKey)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            is_rsa = False
        if not is_rsa:
            raise MissingCredential(f"The {name} of {target.name} is no RSA key in PEM.", details={"credential": name})
        return {"rsa_key": key}

    def sign(self, request: Outgoing, now: float) -> None:
        form = "application/x-www-form-urlencoded"  # its fields are signed too, other bodies are not
        is_form = bool(request.body) and (request.headers.get("Content-Type") or "").startswith(form)
        sign: Any = self._client.sign
        try:
            _, headers, _ = sign(
                request.url,
                http_method=request.method,
                body=(request.body or b"").decode() if is_form else None,
                headers={"Content-Type": form} if is_form else {},
            )
        except ValueError:  # the only text here that nobody has encoded or checked is a form of the caller's own
            raise refuse("data", "is no URL-encoded form, although its content type says so") from None
        request.headers["Authorization"] = headers["Authorization"]


class AwsSigV4(Scheme):
    """AWS Signature Version 4; headers, path, query and body are signed by requests-aws4auth."""

    covers_body = True

    def read(self, target: Target) -> None:
        block = cast("AwsSigV4Config", target.config).aws_sigv4
        self._access_key_id = self.pick(target, ("access_key_id",), block.access_key_id)
        self._secret = self.pick(target, ("secret_access_key",), block.secret_access_key)
        self._session_token = target.credentials.get("session_token")
        self._region = fill_text(block.region, target.variables())
        self._service = block.service
        self._signer = self._make_signer("19700101")

    def sign(self, request: Outgoing, now: float) -> None:
        moment = datetime.fromtimestamp(now, UTC)
        day = f"{moment:%Y%m%d}"
        # Its key holds for a day. A new signer rather than a new key in it: threads sign beside us.
        signer = self._signer
        if signer.date != day:
            signer = self._signer = self._make_signer(day)
        fields = request.headers.as_dict() | {"x-amz-date": f"{moment:%Y%m%dT%H%M%SZ}"}
        prepared = _Prepared(request.method, request.url, fields, request.body)
        signer(prepared)
        for name, value in prepared.headers.items():
            request.headers[name] = value

    def _make_signer(self, day: str) -> AWS4Auth:
        return AWS4Auth(
            self._access_key_id, self._secret, self._region, self._service, day, session_token=self._session_token
        )


@dataclass(slots=True, repr=False)
class _Prepared:
    """What requests-aws4auth needs of a request of requests."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None


def _alternate(parts: list[str]) -> Iterator[tuple[bool, str]]:
    return ((bool(index % 2), part) for index, part in enumerate(parts))
