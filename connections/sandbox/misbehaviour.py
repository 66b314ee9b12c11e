"""Answers that a good provider never gives, on request: statuses, slowness, refusals that pass, rate limits, detours.

Answers that break HTTP itself stand in ``breakage``. Every wait and size is bounded, and ends when the client leaves.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from email.utils import formatdate
from urllib.parse import urlencode

from connections.sandbox.answers import Answer, Raw, Refusal, Reply, answer_error, answer_json, render_head
from connections.sandbox.request import Request
from connections.sandbox.routing import ANY, Route
from connections.sandbox.state import State
from connections.sandbox.wire import Wire

WAIT_SECONDS = 60.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})


def give_status(request: Request, _state: State) -> Reply:
    """The status asked for; ``retry_after`` adds the header."""
    text = request.arguments["code"]
    if not re.fullmatch(r"[2-5][0-9]{2}", text, re.ASCII):
        raise Refusal(400, "bad_parameter", "The status must be from 200 to 599")
    status = int(text)
    headers = _retry_after(request, request.parameters.get("retry_after"))
    if status < 400:
        return answer_json({"status": status}, status, headers)
    return answer_error(Refusal(status, f"status_{status}", "As you asked", headers))


def answer_slowly(request: Request, _state: State) -> Reply:
    """Wait ``seconds`` (or ``first``) and answer; with ``trickle`` send a byte each so many seconds, ``bytes`` of them.

    ``part=head`` trickles from the first byte of the status line on.
    """
    first = request.number("first", request.number("seconds", 1, WAIT_SECONDS), WAIT_SECONDS)
    trickle = request.number("trickle", 0, WAIT_SECONDS)
    body = b'"' + b"s" * (request.whole("bytes", 60, 100_000, 2) - 2) + b'"'
    head = render_head(
        200, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
    )
    quick, slow = (b"", head + body) if request.parameters.get("part") == "head" else (head, body)

    def play(wire: Wire) -> None:
        wire.pause(first)
        if not trickle:
            wire.send(head + body)
            return
        deadline = time.monotonic() + 10 * WAIT_SECONDS
        wire.send(quick)
        for position in range(len(slow)):
            wire.send(slow[position : position + 1])
            wire.pause(trickle)
            if time.monotonic() > deadline:
                return

    return Raw(play)


def hang(request: Request, _state: State) -> Reply:
    """Never answer; close after ``seconds`` (60)."""
    seconds = request.number("seconds", WAIT_SECONDS, WAIT_SECONDS)
    return Raw(lambda wire: wire.pause(seconds))


def fail_at_first(request: Request, state: State) -> Reply:
    """Fail ``fails`` times for each ``key``, then work. ``status`` (503) or ``how=close`` is the failure.

    Without a key all callers share one, and after a success it fails anew.
    """
    key = request.parameters.get("key") or ""
    fails = request.whole("fails", 1, 1_000)
    status = request.whole("status", 503, 599, 400)
    headers = _retry_after(request, request.parameters.get("retry_after"))
    with state.lock:
        attempt = state.attempts.get(key, 0) + 1
        state.attempts[key] = 0 if not key and attempt > fails else attempt
    if attempt > fails:
        return answer_json({"ok": True, "attempt": attempt})
    if request.parameters.get("how") == "close":
        return Raw(lambda wire: wire.close())
    return answer_error(Refusal(status, "flaky", f"Failure {attempt} of {fails}", headers))


def limit_rate(request: Request, state: State) -> Reply:
    """Without ``key`` always 429; with one, ``limit`` requests in any ``window`` seconds pass.

    ``retry_after`` overrides the seconds of the Retry-After header, ``format=date`` writes it as a date.
    """
    if "key" not in request.parameters:
        headers = _retry_after(request, request.parameters.get("retry_after", "1"))
        return answer_error(Refusal(429, "rate_limited", "Too many requests", headers))
    limit = request.whole("limit", 10, 10_000, 1)
    window = request.number("window", 1, 3_600, 0.01)
    key = f"{_need_key(request)} {limit} {window:g}"
    now = time.monotonic()
    with state.lock:
        passed = state.windows.setdefault(key, deque())
        while passed and passed[0] <= now - window:
            passed.popleft()
        has_room = len(passed) < limit
        if has_room:
            passed.append(now)
        remaining, wait = limit - len(passed), passed[0] + window - now
    headers = {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(math.ceil(time.time() + wait)),
    }
    if has_room:
        return answer_json({"ok": True, "remaining": remaining}, headers=headers)
    headers |= _retry_after(request, request.parameters.get("retry_after", str(math.ceil(wait))))
    return answer_error(Refusal(429, "rate_limited", f"More than {limit} requests in {window:g} seconds", headers))


def redirect(request: Request, _state: State) -> Reply:
    """Send the client ``to`` any URL or path, with ``status`` (302)."""
    target = request.parameters.get("to", "")
    status = request.whole("status", 302, 399)
    if not target or not all("\x21" <= character <= "\x7e" for character in target):
        raise Refusal(400, "bad_parameter", "to must be a URL in printable ASCII")
    if status not in REDIRECTS:
        raise Refusal(400, "bad_parameter", f"status must be one of {', '.join(map(str, sorted(REDIRECTS)))}")
    return answer_json({"to": target}, status, {"Location": target})


def redirect_in_circles(request: Request, _state: State) -> Reply:
    """Lead to itself for ever; ``hop`` counts."""
    following = {**request.parameters, "hop": str(request.whole("hop", 0, 10**9) + 1)}
    return Answer(302, headers={"Location": f"{request.prefix}/redirect-loop?{urlencode(following)}"})


def _need_key(request: Request) -> str:
    key = request.parameters.get("key")
    if not key or len(key) > 200:
        raise Refusal(400, "bad_parameter", "key must be given, in at most 200 characters")
    return key


def _retry_after(request: Request, seconds: str | None) -> dict[str, str]:
    if seconds is None:
        return {}
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= 9):
        raise Refusal(400, "bad_parameter", "retry_after must be whole seconds")
    if request.parameters.get("format") == "date":
        # A date has no fractions: round up, so that it is never earlier than the seconds asked for.
        return {"Retry-After": formatdate(math.ceil(time.time() + int(seconds)), usegmt=True)}
    return {"Retry-After": seconds}


ROUTES = (
    Route("/status/{code}", give_status, ANY, "any status from 200 to 599"),
    Route("/slow", answer_slowly, ANY, "seconds, first, trickle, bytes, part=head"),
    Route("/hang", hang, ANY, "never answers"),
    Route("/flaky", fail_at_first, ANY, "key, fails, status, how=close, retry_after"),
    Route("/rate-limited", limit_rate, ANY, "retry_after, format=date; or key, limit, window"),
    Route("/redirect", redirect, ANY, "to, status"),
    Route("/redirect-loop", redirect_in_circles, ANY, "for ever"),
)
