"""The provider's signing keys by algorithm, the RSA key before the last rotation, and one that nobody publishes."""

from __future__ import annotations

import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwcrypto.jwk import JWK
from jwt.utils import base64url_encode


class Keys:
    def __init__(self) -> None:
        self.current: dict[str, Any] = {
            "RS256": _rsa(),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        self.foreign = _rsa()
        self.retired: Any = None

    def rotate(self) -> None:
        self.retired, self.current["RS256"] = self.current["RS256"], _rsa()

    def sign(self, claims: dict[str, Any], algorithm: str, key: str, headers: dict[str, Any]) -> str:
        """``key`` is ``current``, ``retired`` or ``foreign``; a foreign key claims the id of the current one.

        ``none`` signs nothing, and HS256 signs with the public key as the secret, which confuses careless readers.
        """
        if algorithm == "none":
            return jwt.encode(claims, "", algorithm="none", headers=headers)
        if algorithm == "HS256":
            return self._confused(claims, headers)
        chosen = {"current": self.current[algorithm], "retired": self.retired, "foreign": self.foreign}[key]
        named = self.current[algorithm] if key == "foreign" else chosen
        return jwt.encode(claims, chosen, algorithm=algorithm, headers={"kid": key_id(algorithm, named), **headers})

    def _confused(self, claims: dict[str, Any], headers: dict[str, Any]) -> str:
        """By hand, as no library would."""
        public = self.current["RS256"].public_key()
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        head = {"alg": "HS256", "typ": "JWT", "kid": key_id("RS256", self.current["RS256"]), **headers}
        text = b".".join(base64url_encode(json.dumps(part).encode()) for part in (head, claims))
        signature = hmac.digest(public.public_bytes(encoding, form), text, "sha256")
        return b".".join((text, base64url_encode(signature))).decode()

    def other_jwks(self) -> list[dict[str, Any]]:
        """The public halves of the keys that the toolkit knows nothing of."""
        return [
            {
                **jwt.get_algorithm_by_name(algorithm).to_jwk(self.current[algorithm].public_key(), as_dict=True),
                "use": "sig",
                "alg": algorithm,
                "kid": key_id(algorithm, self.current[algorithm]),
            }
            for algorithm in ("ES256", "EdDSA")
        ]


def key_id(algorithm: str, key: Any) -> str:
    """The toolkit's own id of an RSA key, and the name of the algorithm for the other ones."""
    return str(JWK.from_pem(pem(key).encode()).thumbprint()) if algorithm == "RS256" else algorithm.lower()


def pem(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    text: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return text.decode()


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


keys = Keys()
