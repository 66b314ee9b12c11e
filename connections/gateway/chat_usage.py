"""Hears a chat completion on its way, whole or in events, and knows in the end how many tokens it used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from external_apis.backoffice.ai_usage import MOST_TOKENS_OF_ONE, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TokenMeter"]

_MOST_BYTES = 8 * 1024 * 1024
"""Of a whole answer, or of one event; what is longer is passed on and tells nothing here."""


class TokenMeter:
    """An `Audience` that calls ``on_end`` once with what is known.

    The last event that tells of usage counts. Where an answer in events told none, as when somebody left before its
    end, each event with text in it stands for one token of the completion: it holds at least that much.
    """

    def __init__(self, on_end: Callable[[TokenCounts], None], *, in_events: bool) -> None:
        self._on_end, self._in_events = on_end, in_events
        self._waiting = bytearray()
        self._is_too_long = False
        self._told: TokenCounts | None = None
        self._texts = 0

    def hear(self, piece: bytes) -> None:
        if self._in_events:
            *lines, rest = piece.split(b"\n")
            for line in lines:
                self._keep(line)
                self._read_event()
            self._keep(rest)
        else:
            self._keep(piece)

    def end(self, *, is_whole: bool) -> None:
        if self._in_events:
            self._read_event()
        elif is_whole and not self._is_too_long:
            self._read(bytes(self._waiting))
        self._on_end(self._told or TokenCounts(completion=self._texts, total=self._texts))

    def _keep(self, piece: bytes) -> None:
        if len(self._waiting) + len(piece) > _MOST_BYTES:
            self._is_too_long = True
        if not self._is_too_long:
            self._waiting += piece

    def _read_event(self) -> None:
        line, is_too_long = bytes(self._waiting), self._is_too_long
        self._waiting.clear()
        self._is_too_long = False
        if line.startswith(b"data:") and not is_too_long:
            event = self._read(line.removeprefix(b"data:"))
            self._texts += _has_text(event)

    def _read(self, text: bytes) -> Any:
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):  # the end mark, or no JSON: whoever gets it sees for themselves
            return None
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if isinstance(usage, dict):
            prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
            self._told = TokenCounts(prompt, completion, _count(usage.get("total_tokens")) or prompt + completion)
        return answer


def _count(number: Any) -> int:
    is_count = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST_TOKENS_OF_ONE
    return number if is_count else 0


def _has_text(event: Any) -> bool:
    """Tell whether an event carries a piece of an answer; what it is of, text or a tool's call, does not matter."""
    choices = event.get("choices") if isinstance(event, dict) else None
    deltas = (
        [choice.get("delta") for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    )
    return any(isinstance(delta, dict) and any(delta.get(name) for name in delta if name != "role") for delta in deltas)
