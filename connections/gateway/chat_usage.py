"""Hears a chat completion on its way, whole or in events, and knows in the end how many tokens it used."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from external_apis.backoffice.ai_usage import MOST_TOKENS_OF_ONE, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TokenMeter"]

_MOST_BYTES = 8 * 1024 * 1024
"""Of a whole answer, or of one event; what is longer is passed on and tells nothing here."""
_BYTES_OF_A_TOKEN = 4
_BLANK = b" \t\r\n\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class TokenMeter:
    """An `Audience` that calls ``on_end`` once with what is known.

    An answer that begins as a JSON object is one, and any other comes in events (WHATWG HTML, 9.2.6), whatever its type
    is said to be. The last thing in it that tells of usage counts. Where nothing did, each event with text in it stands
    for one token of the completion, which it holds at least; of an object that was cut short, as when somebody left
    before its end, and of what is not readable, each four bytes do. Neither is for nothing.
    """

    def __init__(self, on_end: Callable[[TokenCounts], None], *, is_readable: bool = True) -> None:
        self._on_end, self._is_readable = on_end, is_readable
        self._is_object: bool | None = None  # unknown before it has begun
        self._text, self._line = bytearray(), bytearray()  # of the object or event, and of a line that has not ended
        self._is_after_return = self._is_too_long = False
        self._told: TokenCounts | None = None
        self._bytes = self._texts = 0

    def hear(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._is_object is None:
            piece = piece.lstrip(_BLANK)
        if not piece or not self._is_readable:
            return
        if self._is_object is None:
            self._is_object = piece.startswith(b"{")
        if self._is_object:
            self._keep(self._text, piece)
        else:
            self._hear_lines(piece)

    def end(self, *, is_whole: bool) -> None:
        if self._is_object:
            is_whole = self._read_text() is not None or is_whole
        else:
            self._end_line()
            self._end_event()
        self._on_end(self._told or self._estimate(is_whole=is_whole))

    def _hear_lines(self, piece: bytes) -> None:
        if self._is_after_return:
            piece = piece.removeprefix(b"\n")  # the second half of one end of a line
        self._is_after_return = piece.endswith(b"\r")
        *lines, rest = _LINE_END.split(piece)
        for line in lines:
            self._keep(self._line, line)
            self._end_line()
        self._keep(self._line, rest)

    def _end_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if not line:
            self._end_event()
        elif line.startswith(b"data:"):
            self._keep(self._text, line.removeprefix(b"data:") + b"\n")

    def _end_event(self) -> None:
        self._texts += _has_text(self._read_text())

    def _keep(self, kept: bytearray, piece: bytes) -> None:
        if len(kept) + len(piece) > _MOST_BYTES:
            self._is_too_long = True
        if not self._is_too_long:
            kept += piece

    def _read_text(self) -> Any:
        """Take what is told of usage out of the object or event that has ended, and return it, if it is JSON."""
        text, is_too_long = bytes(self._text), self._is_too_long
        self._text.clear()
        self._is_too_long = False
        if not text or is_too_long:
            return None
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):  # the end mark, or no JSON: whoever gets it sees for themselves
            return None
        self._told = _read_usage(answer) or self._told
        return answer

    def _estimate(self, *, is_whole: bool) -> TokenCounts:
        is_lost = not self._is_readable or (self._is_object and not is_whole)
        tokens = self._bytes // _BYTES_OF_A_TOKEN if is_lost else self._texts
        if is_lost or not is_whole:
            tokens = max(tokens, 1)
        return TokenCounts(completion=tokens, total=tokens)


def _read_usage(answer: Any) -> TokenCounts | None:
    """Return what an answer tells, None where no count of it is more than nothing."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return None
    prompt, completion, total = (_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    return TokenCounts(prompt, completion, total or prompt + completion) if prompt or completion or total else None


def _count(number: Any) -> int:
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    is_count = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST_TOKENS_OF_ONE
    return number if is_count else 0


def _has_text(event: Any) -> bool:
    """Tell whether an event carries a piece of an answer; what it is of, text or a tool's call, does not matter."""
    choices = event.get("choices") if isinstance(event, dict) else None
    deltas = (
        [choice.get("delta") for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    )
    return any(isinstance(delta, dict) and any(delta.get(name) for name in delta if name != "role") for delta in deltas)
