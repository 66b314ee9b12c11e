"""What the authorization server remembers: clients, families of tokens, and consents on their way. All bounded."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from connections.sandbox.bounded import Bounded
from connections.sandbox.oauth.clients import Client
from connections.sandbox.oauth.registry import register_built_in
from connections.sandbox.oauth.tokens import Family, Token

CLIENTS = 1_000
FAMILIES = 20_000
ATTEMPTS = 1_000
CODE_SECONDS = 60


@dataclass
class Consent:
    """A request for consent that waits for its user; ``challenge`` is that of PKCE."""

    client: Client
    redirect_uri: str
    scopes: list[str]
    state: str
    challenge: str | None


@dataclass
class Code:
    """An authorization code, and once it was used the family that it gave."""

    client_id: str
    redirect_uri: str
    scopes: list[str]
    challenge: str | None
    expires_at: float = field(default_factory=lambda: time.time() + CODE_SECONDS)
    family: Family | None = None


@dataclass
class Device:
    """A device that waits; ``decision`` becomes ``approve``, ``deny`` or ``used``."""

    client_id: str
    scopes: list[str]
    user_code: str
    expires_at: float
    interval_seconds: float
    polled_at: float = 0.0
    decision: str = ""


@dataclass
class RequestToken:
    """OAuth 1.0a's temporary credentials; ``verifier`` comes with the user's consent."""

    client_id: str
    callback: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    verifier: str | None = None


class Memory:
    """``callback_origins`` are the addresses at which the product of ``make run`` takes callbacks."""

    def __init__(self, callback_origins: Sequence[str] = ()) -> None:
        self.built_in = {client.client_id: client for client in register_built_in(callback_origins)}
        self.clients: Bounded[Client] = Bounded(CLIENTS)
        self.families: Bounded[Family] = Bounded(FAMILIES)
        self.consents: Bounded[Consent] = Bounded(ATTEMPTS)
        self.codes: Bounded[Code] = Bounded(ATTEMPTS)
        self.devices: Bounded[Device] = Bounded(ATTEMPTS)
        self.request_tokens: Bounded[RequestToken] = Bounded(ATTEMPTS)

    def find_client(self, client_id: str) -> Client | None:
        return self.clients.get(client_id) or self.built_in.get(client_id)

    def start_family(self, client: Client, scopes: list[str]) -> Family:
        family = Family(client.client_id, scopes)
        self.families[family.id] = family
        return family

    def family_of(self, token: Token) -> Family:
        """The family of a token of ours; one that was forgotten is taken up where the token left it."""
        family = self.families.get(token.family)
        if family is None:
            family = Family(token.client_id, token.scopes, token.family, token.generation)
            self.families[family.id] = family
        return family

    def revoke_client(self, client_id: str) -> int:
        """Revoke all that a client holds; answers with the number of families."""
        held = [family for family in self.families.values() if family.client_id == client_id and not family.is_revoked]
        for family in held:
            family.is_revoked = True
        return len(held)
