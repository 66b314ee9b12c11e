"""An OpenID provider for tests: django-oauth-toolkit in a process of its own, once for each test session.

    client = oidc_provider.register(["http://localhost/callback"])
    oidc_provider.add_user("ann", email="ann@example.com", email_verified=True, groups=["staff"], tenant="north")
    oidc_provider.id_token(client, "ann")            # through the code flow, with the log-in page
    oidc_provider.client_token(oidc_provider.register(grant="client-credentials"), audience="our-api")
    oidc_provider.sign({"iss": oidc_provider.issuer, ...}, algorithm="ES256")

Access tokens are JWTs (RFC 9068); discovery, JWKS, user info, revocation and log-out are where the metadata says.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

ROOT = Path(__file__).resolve().parent.parent
USER_PASSWORD = "a password at the provider"


@dataclass(frozen=True)
class RegisteredClient:
    client_id: str
    client_secret: str
    redirect_uri: str


@dataclass(frozen=True)
class OidcProvider:
    issuer: str

    @property
    def origin(self) -> str:
        return self.issuer.removesuffix("/o")

    @property
    def netloc(self) -> str:
        """What ``EGRESS_ALLOW`` has to name."""
        return urlsplit(self.issuer).netloc

    def register(
        self,
        redirect_uris: Sequence[str] = (),
        *,
        public: bool = False,
        algorithm: str = "RS256",
        grant: str = "authorization-code",
        logout_uris: Sequence[str] = (),
        **claims: Any,
    ) -> RegisteredClient:
        """Register a client. ``algorithm`` signs its ID tokens; ``claims`` go into its own (client) tokens."""
        wanted = {"redirect_uris": list(redirect_uris), "public": public, "algorithm": algorithm, "grant": grant}
        made = self._ask("client", **wanted, logout_uris=list(logout_uris), claims=claims)
        return RegisteredClient(**made, redirect_uri=next(iter(redirect_uris), ""))

    def add_user(self, username: str, **claims: Any) -> str:
        """Make a user with `USER_PASSWORD`, or give one other claims from now on; returns the subject."""
        subject: str = self._ask("user", username=username, password=USER_PASSWORD, claims=claims)["sub"]
        return subject

    def client_token(self, client: RegisteredClient, *, scope: str = "read", audience: str = "") -> str:
        """Return an access token of a client that is registered with ``grant="client-credentials"``."""
        form = {"grant_type": "client_credentials", "scope": scope, "audience": audience}
        return str(self._tokens(client, form)["access_token"])

    def id_token(self, client: RegisteredClient, username: str, *, nonce: str = "") -> str:
        return str(self.tokens(client, username, nonce=nonce)["id_token"])

    def tokens(self, client: RegisteredClient, username: str, *, nonce: str = "", scope: str = "openid") -> Any:
        """Sign a user in and exchange the code, as a browser and its application do."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uri,
            "scope": scope,
            "state": "s",
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = requests.Request("GET", f"{self.issuer}/authorize/", params=query).prepare().url or ""
        code = parse_qs(urlsplit(self.sign_in(address, username)).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        return self._tokens(client, {**form, "redirect_uri": client.redirect_uri})

    def sign_in(self, address: str, username: str) -> str:
        """Follow an authorization request through the log-in page; returns the address that it redirects back to."""
        with _session() as browser:
            page = browser.get(address)
            token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[0]
            form = {"csrfmiddlewaretoken": token, "username": username, "password": USER_PASSWORD}
            path = urlsplit(address)
            answer = browser.post(page.url, {**form, "next": f"{path.path}?{path.query}"}, allow_redirects=False)
            answer = browser.get(self.origin + answer.headers["Location"], allow_redirects=False)
            return answer.headers["Location"]

    def sign(
        self,
        claims: dict[str, Any],
        *,
        algorithm: str = "RS256",
        key: str = "current",
        headers: dict[str, Any] | None = None,
    ) -> str:
        """Sign any claims with a key of the provider: RS256, ES256, EdDSA; or forge: ``none``, HS256.

        ``key`` is ``current``, ``retired`` (before the last rotation) or ``foreign`` (not in the JWKS).
        """
        token: str = self._ask("sign", claims=claims, algorithm=algorithm, key=key, headers=headers or {})["token"]
        return token

    def rotate_key(self, *, keep_old: bool = True) -> None:
        """Sign with a new RSA key from now on; the JWKS keeps the old one or not."""
        self._ask("rotate", keep_old=keep_old)

    def tamper(
        self,
        client: RegisteredClient,
        *,
        algorithm: str = "RS256",
        key: str = "current",
        headers: dict[str, Any] | None = None,
        **claims: Any,
    ) -> None:
        """Have the token endpoint alter this client's ID tokens; a claim of None is left out."""
        wanted = {"algorithm": algorithm, "key": key, "headers": headers or {}}
        self._ask("tamper", client_id=client.client_id, claims=claims, **wanted)

    def stop_tampering(self, client: RegisteredClient) -> None:
        self._ask("tamper", client_id=client.client_id)

    def change_metadata(self, **values: Any) -> None:
        """Lay values over the discovery document, None takes one out; without values it is the honest one again."""
        self._ask("metadata", **values)

    def asked(self, endpoint: str) -> int:
        """How often ``discovery``, ``jwks`` or ``token`` was asked."""
        return int(self._ask("count").get(endpoint, 0))

    def get(self, url: str) -> Any:
        """Return the JSON at an address of the provider."""
        with _session() as session:
            return session.get(url).json()

    def _tokens(self, client: RegisteredClient, form: dict[str, str]) -> Any:
        form = {**form, "client_id": client.client_id}
        if client.client_secret:
            form["client_secret"] = client.client_secret
        with _session() as session:
            answer = session.post(f"{self.issuer}/token/", form)
        assert answer.ok, answer.text
        return answer.json()

    def _ask(self, verb: str, **wanted: Any) -> Any:
        with _session() as session:
            answer = session.post(f"{self.origin}/_control/{verb}", json=wanted)
        answer.raise_for_status()
        return answer.json()


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[OidcProvider]:
    """The session's provider; tests tell themselves apart by clients and users of their own."""
    with tempfile.TemporaryDirectory(prefix="eam-oidc-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.oidc_server", folder],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            issuer = process.stdout.readline().strip()
            assert issuer.startswith("http://"), "the OpenID provider did not start"
            yield OidcProvider(issuer)
        finally:
            process.terminate()
            process.communicate(timeout=10)
