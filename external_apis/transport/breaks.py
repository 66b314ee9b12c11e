"""What went wrong with a connection, in words that cannot hold a URL or a password."""

from __future__ import annotations

import http.client
import os
import socket
import ssl

__all__ = ["explain", "is_certain"]

_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "the name does not resolve"),
    (ssl.SSLError, "TLS failed"),
    (http.client.RemoteDisconnected, "it closed the connection without an answer"),
    (http.client.IncompleteRead, "its answer is not complete"),
    (http.client.BadStatusLine, "what it sent is no HTTP answer"),
    (http.client.LineTooLong, "a line of its header is too long"),
    (http.client.HTTPException, "its header is not usable"),
    (ValueError, "what it sent is not framed as HTTP wants it"),
)
"""The first that fits counts."""


def explain(error: Exception) -> str:
    """Return the reason, to stand behind a colon."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if "Tunnel connection failed" in str(error):
        return "the proxy refuses the tunnel"
    words = next((words for kind, words in _WORDS if isinstance(error, kind)), "")
    if not words and isinstance(error, OSError) and error.errno is not None:
        words = os.strerror(error.errno)
    return words or "the connection failed"


def is_certain(error: Exception) -> bool:
    """Tell whether asking again would bring the same: the resolver has said that there is no such name."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
