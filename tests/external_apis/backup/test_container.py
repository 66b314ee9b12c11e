"""The encrypted file: what is written comes back, and nothing else does."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from external_apis.backup import container, frames
from external_apis.backup.container import Reader, Writer
from external_apis.errors import InvalidInput

CHUNK = 64


@pytest.fixture(autouse=True, scope="module")
def _small() -> object:
    """Chunks and scrypt small enough for thousands of files; the format is the same."""
    patch = pytest.MonkeyPatch()
    patch.setattr(container, "_SCRYPT_N", 2)
    patch.setattr(container, "CHUNK_BYTES", CHUNK)
    yield
    patch.undo()


def written(content: bytes, passphrase: str = "pass", pieces: int = 7) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, passphrase)
    for start in range(0, len(content), pieces):
        writer.write(content[start : start + pieces])
    writer.close()
    return file.getvalue()


def read(data: bytes, passphrase: str = "pass") -> bytes:
    return b"".join(Reader(io.BytesIO(data), passphrase).chunks())


@settings(deadline=None)
@given(st.binary(max_size=5 * CHUNK), st.text(max_size=20), st.integers(1, 3 * CHUNK))
def test_what_is_written_is_read(content: bytes, passphrase: str, pieces: int) -> None:
    assert read(written(content, passphrase, pieces), passphrase) == content


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_every_altered_bit_and_every_truncation_is_noticed(size: int) -> None:
    data = written(b"x" * size)
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1
        with pytest.raises(InvalidInput):
            read(bytes(altered))
        with pytest.raises(InvalidInput):
            read(data[:position])


def test_chunks_cannot_be_moved_left_out_repeated_or_added() -> None:
    data = written(b"".join(bytes([number]) * CHUNK for number in range(4)))
    size = CHUNK + 16
    start = len(data) - 4 * size
    head, chunks = data[:start], [data[start + n * size : start + (n + 1) * size] for n in range(4)]
    assert read(head + b"".join(chunks))
    for order in ([1, 0, 2, 3], [0, 2, 3], [0, 1, 1, 2, 3], [0, 1, 2], [0, 1, 2, 3, 3], [3]):
        with pytest.raises(InvalidInput):
            read(head + b"".join(chunks[number] for number in order))
    with pytest.raises(InvalidInput):
        read(data + b"x")


def test_a_chunk_of_another_file_is_noticed() -> None:
    first, second = written(b"a" * 10), written(b"b" * 10)
    with pytest.raises(InvalidInput):
        read(first[:-26] + second[-26:])


def test_a_wrong_passphrase_is_told_before_anything_is_read() -> None:
    data = written(b"content")
    for wrong in ("", "Pass", "pass "):
        with pytest.raises(InvalidInput, match="passphrase is wrong"):
            Reader(io.BytesIO(data), wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**40},
        {"n": 3},
        {"n": True},
        {"r": 10**6},
        {"p": 10**6},
        {"chunk": 2**40},
        {"chunk": 0},
        {"chunk": "64"},
        {"salt": "zz"},
        {"salt": ""},
        {"kdf": "none"},
        {"cipher": "none"},
    ],
)
def test_a_forged_header_asks_nothing_of_this_machine(change: dict[str, object]) -> None:
    data = written(b"content")
    length = int.from_bytes(data[10:14], "big")
    header = json.dumps({**json.loads(data[14 : 14 + length]), **change}).encode()
    forged = data[:10] + len(header).to_bytes(4, "big") + header + data[14 + length :]
    with pytest.raises(InvalidInput):
        Reader(io.BytesIO(forged), "pass")


def test_another_version_is_named() -> None:
    data = bytearray(written(b""))
    data[9] = 2
    with pytest.raises(InvalidInput, match="of format 2"):
        read(bytes(data))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    for junk in (data, b"EAMBACKUP" + data, b"EAMBACKUP\x01" + data):
        with pytest.raises(InvalidInput):
            read(junk)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 50))
def test_frames_come_out_of_chunks_of_any_size(payloads: list[bytes], size: int) -> None:
    class Plain(io.BytesIO):
        pass

    plain = Plain()
    frames.write_json(plain, frames.MANIFEST, {})  # type: ignore[arg-type]
    for payload in payloads:
        frames.write(plain, frames.DATA, payload)  # type: ignore[arg-type]
    frames.write_json(plain, frames.END, {})  # type: ignore[arg-type]
    data = plain.getvalue()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    found = list(frames.read(pieces))
    assert [payload for kind, payload in found if kind == frames.DATA] == payloads
    for broken in (pieces[:-1], [*pieces, b"D"], pieces[1:]):
        with pytest.raises(InvalidInput):
            list(frames.read(broken))
