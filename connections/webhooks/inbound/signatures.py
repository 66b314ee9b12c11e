"""Kinds of signatures: what is signed, with what, and where the signature stands. `schemes` is the table of them.

Each kind is a frozen object; comparing takes the same time wherever two signatures begin to differ.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connections.webhooks.inbound.deliveries import Delivery

__all__ = ["EcdsaSignature", "HmacSignature", "Signature", "StandardSignature", "TwilioSignature", "UnusableSecret"]

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]

_PLACEHOLDER = re.compile(r"{(body|timestamp|id|url|method)}")
_MOST_SIGNATURES = 16
"""So many are looked at of those in one header: a rotation has two."""
_LATEST = 253_402_300_799
"""The last second that a date can be of."""


class UnusableSecret(ValueError):
    """The stored secret cannot be one of this scheme's; the message says why, without it."""


class Signature(Protocol):
    """One kind of signature."""

    @property
    def required(self) -> Sequence[str]:
        """Headers without which a delivery has no signature."""
        ...

    def signed_at(self, delivery: Delivery) -> int | None:
        """Return the signed time in seconds since 1970: None where the scheme has none, -1 where it is malformed."""
        ...

    def fits(self, delivery: Delivery, secret: str) -> bool:
        """Whether the delivery carries a signature of this secret, whatever its time. Raises `UnusableSecret`."""
        ...

    def content(self, delivery: Delivery) -> bytes:
        """Return what is signed but for its time, the same however it was written: two with the same are one."""
        ...

    def sign(self, delivery: Delivery, secret: str, at: int) -> dict[str, str]:
        """Return the headers that the provider would send. Raises `UnusableSecret` where only the provider can."""
        ...


@dataclass(frozen=True)
class HmacSignature:
    """An HMAC over ``payload``, in which {body}, {timestamp}, {id}, {method} and {url} are filled in.

    ``item`` is the name of the signatures in a header of several items (``t=1,v1=abc``); otherwise the whole header is
    one, behind ``prefix``. ``timestamp_item`` and ``timestamp_header`` tell where the time stands.
    """

    header: str
    prefix: str = ""
    algorithm: Algorithm = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    payload: str = "{body}"
    item: str = ""
    timestamp_item: str = ""
    timestamp_header: str = ""
    id_header: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.header, self.timestamp_header, self.id_header)))

    def signed_at(self, delivery: Delivery) -> int | None:
        if not self.timestamp_item and not self.timestamp_header:
            return None
        return _seconds(self._timestamp(delivery))

    def fits(self, delivery: Delivery, secret: str) -> bool:
        expected = self._mac(delivery, secret, self._timestamp(delivery))
        fitting = False
        for given in self._given(delivery):
            fitting |= hmac.compare_digest(expected, given)
        return fitting

    def content(self, delivery: Delivery) -> bytes:
        return self._signed(delivery, "")

    def sign(self, delivery: Delivery, secret: str, at: int) -> dict[str, str]:
        mac = self._mac(delivery, secret, str(at))
        text = mac.hex() if self.encoding == "hex" else base64.b64encode(mac).decode()
        if self.item:
            return {self.header: f"{self.timestamp_item}={at},{self.item}={text}"}
        own = {self.timestamp_header: str(at)} if self.timestamp_header else {}
        return {self.header: f"{self.prefix}{text}", **own}

    def _mac(self, delivery: Delivery, secret: str, timestamp: str) -> bytes:
        return hmac.digest(_as_bytes(secret), self._signed(delivery, timestamp), self.algorithm)

    def _signed(self, delivery: Delivery, timestamp: str) -> bytes:
        parts = {
            "body": delivery.body,
            "timestamp": _header_bytes(timestamp),
            "id": _header_bytes(delivery.header(self.id_header)) if self.id_header else b"",
            "url": _as_bytes(delivery.url),
            "method": _as_bytes(delivery.method),
        }
        # Split at the placeholders: what is filled in is never taken for one.
        pieces = _PLACEHOLDER.split(self.payload)
        return b"".join(parts[piece] if place % 2 else _as_bytes(piece) for place, piece in enumerate(pieces))

    def _timestamp(self, delivery: Delivery) -> str:
        if self.timestamp_item:
            return next(self._items(delivery, self.timestamp_item), "")
        return delivery.header(self.timestamp_header).strip() if self.timestamp_header else ""

    def _given(self, delivery: Delivery) -> list[bytes]:
        if self.item:
            texts = list(self._items(delivery, self.item))
        else:
            text = delivery.header(self.header).strip()
            texts = [text.removeprefix(self.prefix)] if text.startswith(self.prefix) else []
        return [_decoded(text, self.encoding) for text in texts[:_MOST_SIGNATURES]]

    def _items(self, delivery: Delivery, name: str) -> Iterator[str]:
        for part in delivery.header(self.header).split(","):
            key, _, value = part.strip().partition("=")
            if key == name:
                yield value


@dataclass(frozen=True)
class StandardSignature:
    """Standard Webhooks: the secret is base64, mostly behind ``whsec_``; signatures are ``v1,<base64>``, by spaces.

    The standardwebhooks library, by which the tests prove this, verifies text alone (another body is an error of its
    own), has no other tolerance than five minutes, says neither whether the time or the signature was wrong, and raises
    whatever a malformed header makes of it. Outbound, where the text is ours, it signs.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """

    required = ("webhook-id", "webhook-timestamp", "webhook-signature")

    def signed_at(self, delivery: Delivery) -> int:
        return _seconds(delivery.header("webhook-timestamp"))

    def fits(self, delivery: Delivery, secret: str) -> bool:
        at = self.signed_at(delivery)
        if at < 0:
            return False
        expected = self._mac(delivery, secret, at)
        fitting = False
        for text in delivery.header("webhook-signature").split()[:_MOST_SIGNATURES]:
            version, _, given = text.partition(",")
            fitting |= version == "v1" and hmac.compare_digest(expected, _decoded(given, "base64"))
        return fitting

    def content(self, delivery: Delivery) -> bytes:
        return delivery.body

    def sign(self, delivery: Delivery, secret: str, at: int) -> dict[str, str]:
        mac = base64.b64encode(self._mac(delivery, secret, at)).decode()
        return {"webhook-timestamp": str(at), "webhook-signature": f"v1,{mac}"}

    def _mac(self, delivery: Delivery, secret: str, at: int) -> bytes:
        try:
            # As the libraries have it: with or without what base64 is filled up with.
            key = base64.b64decode(f"{secret.removeprefix('whsec_')}==")
        except ValueError:
            key = b""
        if not key:
            raise UnusableSecret("The stored secret is not base64, as a whsec_ secret is.")
        return hmac.digest(key, _header_bytes(delivery.header("webhook-id")) + b".%d." % at + delivery.body, "sha256")


@dataclass(frozen=True)
class TwilioSignature:
    """An HMAC over the URL and the sorted fields of a form; over the URL with ``bodySHA256`` in it for other bodies.

    SHA-1, or SHA-256 where the header ``X-Twilio-Webhooks-Signature-Settings`` says so. There is no time in it.
    Source: https://www.twilio.com/docs/usage/webhooks/webhooks-security
    """

    required = ("X-Twilio-Signature",)

    def signed_at(self, delivery: Delivery) -> None:
        return None

    def fits(self, delivery: Delivery, secret: str) -> bool:
        given = _decoded(delivery.header("X-Twilio-Signature").strip(), "base64")
        fitting = False
        for url in _with_and_without_port(delivery.url):
            fitting |= hmac.compare_digest(self._mac(replace(delivery, url=url), secret), given)
        return fitting and self._body_is_signed(delivery)

    def sign(self, delivery: Delivery, secret: str, at: int) -> dict[str, str]:
        return {"X-Twilio-Signature": base64.b64encode(self._mac(delivery, secret)).decode()}

    def _mac(self, delivery: Delivery, secret: str) -> bytes:
        settings = delivery.header("X-Twilio-Webhooks-Signature-Settings").lower()
        is_newer = "algorithm=hmac_sha256" in settings
        return hmac.digest(_as_bytes(secret), self._signed(delivery), "sha256" if is_newer else "sha1")

    def content(self, delivery: Delivery) -> bytes:
        # Nothing stands between names and values: fields that are cut in another way have the same signature.
        return self._signed(delivery) + (b"" if delivery.is_form else delivery.body)

    def _signed(self, delivery: Delivery) -> bytes:
        return _as_bytes(delivery.url + "".join(f"{name}{value}" for name, value in _sorted_fields(delivery)))

    def _body_is_signed(self, delivery: Delivery) -> bool:
        """A form's fields are in the signature themselves; of another body the URL has the digest, or nothing has."""
        digests = [value for name, value in parse_qsl(urlsplit(delivery.url).query) if name == "bodySHA256"]
        if not digests:
            return delivery.is_form or not delivery.body
        actual = hashlib.sha256(delivery.body).hexdigest()
        return hmac.compare_digest(_as_bytes(digests[0].lower()), actual.encode())


@dataclass(frozen=True)
class EcdsaSignature:
    """ECDSA on P-256 over the timestamp and the body; the stored "secret" is the provider's public key.

    Source: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
    """

    header: str
    timestamp_header: str

    @property
    def required(self) -> tuple[str, ...]:
        return (self.header, self.timestamp_header)

    def signed_at(self, delivery: Delivery) -> int:
        return _seconds(delivery.header(self.timestamp_header))

    def fits(self, delivery: Delivery, secret: str) -> bool:
        signed = _header_bytes(delivery.header(self.timestamp_header)) + delivery.body
        try:
            _public_key(secret).verify(
                _decoded(delivery.header(self.header).strip(), "base64"), signed, ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            return False
        return True

    def content(self, delivery: Delivery) -> bytes:
        return delivery.body

    def sign(self, delivery: Delivery, secret: str, at: int) -> dict[str, str]:
        raise UnusableSecret("Only the provider can sign: what is stored is its public key.")


@lru_cache(maxsize=64)
def _public_key(text: str) -> ec.EllipticCurvePublicKey:
    """Take the key as it is shown (base64 of DER) or as PEM. A public key may be kept: it is no secret."""
    inner = "".join(line for line in text.strip().splitlines() if not line.startswith("-----"))
    try:
        key = serialization.load_der_public_key(base64.b64decode(inner, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableSecret("What is stored is not a public key in base64.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise UnusableSecret("What is stored is not a public key on the curve P-256.")
    return key


def _sorted_fields(delivery: Delivery) -> list[tuple[str, str]]:
    """Fields of one name stand in the order of their values, each value once, as Twilio's own libraries have it."""
    return sorted(set(delivery.form))


def _with_and_without_port(url: str) -> list[str]:
    """Twilio signs an address with its standard port written out or without, as its libraries know."""
    parts = urlsplit(url)
    port = {"https": 443, "http": 80}.get(parts.scheme)
    host = parts.netloc
    if parts.port is None:
        other = f"{host}:{port}"
    elif parts.port == port:
        other = host.rpartition(":")[0]
    else:
        other = host
    return [url, url.replace(host, other, 1)]


def _seconds(text: str) -> int:
    text = text.strip()
    # A zero in front could be the end of what stands before the time.
    is_number = text.isascii() and text.isdigit() and len(text) <= 12 and not text.startswith("0")
    return int(text) if is_number and int(text) <= _LATEST else -1


def _decoded(text: str, encoding: Literal["hex", "base64"]) -> bytes:
    """Return the bytes of a signature; nothing, which no signature is, where it is malformed."""
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _header_bytes(text: str) -> bytes:
    """WSGI has headers as Latin-1, whatever they are."""
    return text.encode("latin-1", "replace")
