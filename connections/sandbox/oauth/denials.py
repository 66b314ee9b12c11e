"""Refusals in OAuth's own shape (RFC 6749, section 5.2), and what every endpoint that machines call does alike."""

from __future__ import annotations

from connections.sandbox.answers import Answer, Reply, answer_json
from connections.sandbox.request import Request
from connections.sandbox.routing import Handler
from connections.sandbox.state import State

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class Denial(Exception):
    """``error`` is one of OAuth's codes; the description never quotes a token or a secret."""

    def __init__(self, error: str, description: str, status: int = 400, challenge: str | None = None) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.challenge = challenge


def answer_denial(denial: Denial) -> Answer:
    headers = NO_STORE | ({"WWW-Authenticate": denial.challenge} if denial.challenge else {})
    return answer_json({"error": denial.error, "error_description": denial.description}, denial.status, headers)


def denying(handler: Handler) -> Handler:
    """Turn a `Denial` that the handler raises into its answer."""

    def handle(request: Request, state: State) -> Reply:
        try:
            return handler(request, state)
        except Denial as denial:
            return answer_denial(denial)

    return handle
