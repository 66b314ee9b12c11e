"""What a meter hears of an answer, however it is cut into pieces, and what it takes for what it did not hear."""

from __future__ import annotations

import json
import time

import pytest

from connections.gateway.chat_usage import TokenMeter
from external_apis.backoffice.ai_usage import TokenCounts

TEXT = '{"choices": [{"delta": {"content": "a"}}]}'
USAGE = '{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9}}'
TOLD = TokenCounts(3, 4, 9)


def measure(*pieces: bytes, is_whole: bool = True, is_readable: bool = True) -> TokenCounts:
    told: list[TokenCounts] = []
    meter = TokenMeter(told.append, is_readable=is_readable)
    for piece in pieces:
        meter.hear(piece)
    meter.end(is_whole=is_whole)
    (counts,) = told
    return counts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_with_each_end_of_line_in_pieces_of_each_size(end: str, size: int) -> None:
    half = len(USAGE) // 2
    first, second = USAGE[: USAGE.index(" ", half)], USAGE[USAGE.index(" ", half) :]
    lines = (
        ": hello",
        "",
        "event: x",
        f"data:{TEXT}",
        "",
        f"data: {first}",
        "id: 1",
        f"data: {second}",
        "",
        "data: [DONE]",
        "",
    )
    content = "".join(line + end for line in lines).encode()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert measure(b"", *pieces) == TOLD
    # A silent second changes nothing.
    assert measure(*(part for piece in pieces for part in (piece, b""))) == TOLD


@pytest.mark.parametrize("beginning", ["", "\n\n", "\ufeff", ": hello\n\n", "event: x\n"])
def test_events_are_known_by_how_they_begin(beginning: str) -> None:
    content = f"{beginning}data: {TEXT}\n\ndata: {TEXT}\n\n".encode()
    assert measure(content) == TokenCounts(0, 2, 2)
    assert measure(content[:1], content[1:]) == TokenCounts(0, 2, 2)


@pytest.mark.parametrize(
    "useless",
    [
        "{}",
        '{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}',
        '{"total_tokens": "15"}',
        '{"total_tokens": 15.5, "completion_tokens": -1, "prompt_tokens": true}',
        '{"total_tokens": 1e99}',
        '{"total_tokens": NaN}',
        "null",
    ],
)
def test_usage_that_tells_nothing_takes_nothing_away(useless: str) -> None:
    text = f'data: {{"choices": [{{"delta": {{"content": "a"}}}}], "usage": {useless}}}\n\n'.encode()
    assert measure(text * 50) == TokenCounts(0, 50, 50)
    assert measure(text, f"data: {USAGE}\n\n".encode(), text) == TOLD


def test_whole_numbers_may_be_written_with_a_point() -> None:
    assert measure(b'{"usage": {"prompt_tokens": 5.0, "total_tokens": 15.0}}') == TokenCounts(5, 0, 15)


def test_what_was_cut_short() -> None:
    """An object that is all there tells; of one that is not, four bytes stand for a token; nothing is for nothing."""
    answer = json.dumps({"choices": [{"message": {"content": "x" * 395}}], "usage": {"total_tokens": 9}}).encode()
    assert measure(answer, is_whole=False) == TokenCounts(0, 0, 9)
    assert measure(b'{"choices": []}', is_whole=False) == TokenCounts()
    cut = measure(answer[:400], is_whole=False)
    assert cut == TokenCounts(0, 100, 100)
    assert measure(answer[:400]) == TokenCounts()  # which is no answer at all, and the provider's end of it
    for beginning in (b"", b"{", b"data: {", b": hello\n"):
        assert measure(beginning, is_whole=False) == TokenCounts(0, 1, 1)
    assert measure(f"data: {TEXT}\n\n".encode() * 3, is_whole=False) == TokenCounts(0, 3, 3)


def test_what_cannot_be_read() -> None:
    assert measure(b"\x1f\x8b" * 200, is_readable=False) == TokenCounts(0, 100, 100)
    assert measure(b"", is_readable=False) == TokenCounts(0, 1, 1)


def test_what_is_too_long_tells_nothing_and_costs_no_memory() -> None:
    piece, started = b"x" * 1_000_000, time.thread_time()
    assert measure(b"{", *[piece] * 20, USAGE.encode()) == TokenCounts()
    data = f"data: {USAGE}\n\n".encode()
    assert measure(b"data: ", *[piece] * 20, b"\n", data, data) == TOLD
    assert measure(*[b"data: " + piece + b"\n"] * 20, b"\n", data) == TOLD
    assert time.thread_time() - started < 2
