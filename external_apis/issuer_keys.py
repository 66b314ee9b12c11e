"""The public keys of an outside issuer: found by OpenID Connect Discovery 1.0, read as a JWK set (RFC 7517)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import jwt
import structlog

from external_apis.documents import fetch_document
from external_apis.errors import BadAnswer, CallError, EgressRefused, InvalidToken, ServiceUnavailable
from external_apis.transport import Origin

__all__ = ["ALGORITHMS", "IssuerKeys"]

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""What an outside issuer may sign with: nothing in which our knowing the key would let us, or anybody, sign."""

_FRESH_SECONDS = 600.0
_USABLE_SECONDS = 3600.0
_COOL_DOWN_SECONDS, _SHORTEST_PAUSE_SECONDS, _MOST_SPARED = 15.0, 2.0, 4.0
_TIMEOUT_SECONDS = 5.0
_MAX_KEYS = 100
_SHORTEST_RSA_BITS = 2048
_KINDS: Mapping[tuple[str | None, str | None], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}

_logger = structlog.get_logger(__name__)


class IssuerKeys:
    """One issuer's keys, fetched at first use, again after ten minutes, and for a key id that is not among them.

    They are asked for once in 15 s at most, whatever key ids are made up, after a quiet minute up to four times 2 s
    apart: so a token of a key that was published just now is refused for 2 s, and only while others make up ids for
    15 s. While the issuer is away, keys fetched within the last hour serve on. ``clock`` counts seconds.
    """

    def __init__(self, issuer: str, clock: Callable[[], float] = monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[tuple[str | int, str], jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._spared = 0.0  # fetches that were not made when they could have been, as of the last one

    def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key of an id, without one the only key for the algorithm.

        Raises `InvalidToken` where there is none, `ServiceUnavailable` where that cannot be told.
        """
        if self._clock() - self._fetched_at > _FRESH_SECONDS:
            self._fetch_in_turn()
        key = self._pick(key_id, algorithm)
        if key is None:
            self._fetch_in_turn()
            key = self._pick(key_id, algorithm)
        if key is None and self._fetched_at < self._tried_at:
            raise ServiceUnavailable(f"The signing keys of {Origin.of(self._issuer)} cannot be fetched.")
        if key is None:
            raise InvalidToken("The token is signed with a key that its issuer does not publish.")
        return key

    def _pick(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        if key_id is not None:
            return self._keys.get((key_id, algorithm))
        fitting = [key for (_, known), key in self._keys.items() if known == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _fetch_in_turn(self) -> None:
        """Fetch the keys, unless somebody did while this one waited, or tried a moment ago."""
        asked_at = self._clock()
        with self._lock:
            now = self._clock()
            pause = now - self._tried_at
            spared = min(_MOST_SPARED, self._spared + pause / _COOL_DOWN_SECONDS)
            if self._tried_at < asked_at and pause >= _SHORTEST_PAUSE_SECONDS and spared >= 1:
                self._tried_at, self._spared = now, spared - 1
                try:
                    self._keys = _fetch_keys(self._issuer)
                    self._fetched_at = now
                except (CallError, EgressRefused, ValueError, RecursionError) as error:
                    _logger.warning(
                        "issuer_keys.unavailable",
                        issuer=self._issuer,
                        reason=getattr(error, "message", type(error).__name__),
                    )
            if now - self._fetched_at > _USABLE_SECONDS:
                self._keys = {}


def _fetch_keys(issuer: str) -> Mapping[tuple[str | int, str], jwt.PyJWK]:
    deadline = monotonic() + _TIMEOUT_SECONDS
    metadata = fetch_document(f"{issuer.rstrip('/')}/.well-known/openid-configuration", deadline=deadline)
    if metadata.get("issuer") != issuer:
        raise BadAnswer("The metadata is of another issuer.")
    address = metadata.get("jwks_uri")
    if not isinstance(address, str) or (urlsplit(issuer).scheme, urlsplit(address).scheme) == ("https", "http"):
        raise BadAnswer("The metadata name no address of keys, or one that is less safe than the issuer's.")
    listed = fetch_document(address, deadline=deadline).get("keys")
    if not isinstance(listed, list):
        raise BadAnswer("The document is no JWK set.")
    keys: dict[tuple[str | int, str], jwt.PyJWK] = {}
    for position, described in enumerate(listed[:_MAX_KEYS]):
        if isinstance(described, dict) and (key := _read_key(described)) is not None:
            # Its place is no id that a token could name.
            keys.setdefault((_text(described, "kid") or position, key.algorithm_name), key)
    return keys


def _read_key(described: dict[str, Any]) -> jwt.PyJWK | None:
    """Return a key that may verify signatures; None for others: of another kind, too short, or private."""
    algorithm = _KINDS.get((_text(described, "kty"), _text(described, "crv")))
    if algorithm is None or "d" in described:
        return None
    if described.get("use", "sig") != "sig" or described.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(described, algorithm)
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
    is_short = algorithm == "RS256" and key.key.key_size < _SHORTEST_RSA_BITS
    return None if is_short else key


def _text(described: Mapping[str, Any], name: str) -> str | None:
    value = described.get(name)
    return value if isinstance(value, str) else None
