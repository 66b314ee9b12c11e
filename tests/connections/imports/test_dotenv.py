"""``.env`` files as people write them, and as nobody should."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from connections.imports import dotenv
from external_apis.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A = b", "b"),
        ("export A=b", "b"),
        ("  A=b  ", "b"),
        ("A=", ""),
        ("A=b # a comment", "b"),
        ("A=b#c", "b#c"),
        ("A=b=c==", "b=c=="),
        ("A='b # c'", "b # c"),
        ("A='b' # c", "b"),
        ('A="b # c"', "b # c"),
        ('A="b\\nc"', "b\nc"),
        ('A="b\\"c\\d"', 'b"c\\d'),
        ("A='b\\nc\\'d'", "b\\nc'd"),
        ('A="one\ntwo"', "one\ntwo"),
        ("A='one\r\ntwo'", "one\ntwo"),
        ("\ufeffA=b", "b"),
        ("A=ключ", "ключ"),
        ("'A'=b", "b"),
        ("B=x\nA=${B}y${C:-z}", "xyz"),
        ("B=x\nA='${B}'", "${B}"),
        ("A=first\nA=last", "last"),
        ("A=b\r", "b"),
        ("A=$5{", "$5{"),
    ],
)
def test_what_python_dotenv_reads_is_read_alike(text: str, value: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(text, "utf-8", newline="")
    assert dotenv.read(tmp_path / ".env").values["A"] == value


@pytest.mark.parametrize(
    "line", ["no-equals-swordfish", "=swordfish", "A='swordfish", 'A="swordfish"x', "1A=swordfish", "A=${SWORDFISH}"]
)
def test_what_is_not_understood_is_named_by_its_line_and_not_quoted(line: str) -> None:
    found = dotenv.parse(f"# comment\nB=1\n{line}\n\nC=2\n")
    assert {name: found.values[name] for name in ("B", "C")} == {"B": "1", "C": "2"}
    assert len(found.problems) == 1
    assert "line 3" in found.problems[0]
    assert "swordfish" not in found.problems[0].lower()
    assert "values" not in repr(found)


def test_a_name_that_stands_twice_is_told_of() -> None:
    assert dotenv.parse("A=1\nA=2").problems == ("line 2: A stands there twice; the last one counts",)


def test_this_process_s_own_environment_is_never_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_SECRET", "swordfish")
    assert dotenv.parse("A=${OWN_SECRET}").values == {}


@pytest.mark.parametrize(
    "content", [b"A=1\0", b"\x89PNG\r\n\x1a\n\xff\xfe", b"\xff\xfeA\0=\0", b"A=" + b"x" * dotenv.MAX_BYTES]
)
def test_what_is_no_text_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(InvalidInput):
        dotenv.read(tmp_path / ".env")


def test_a_gigabyte_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / ".env").open("wb") as file:
        file.truncate(1_073_741_824)
    with pytest.raises(InvalidInput, match="longer than 1 MiB"):
        dotenv.read(tmp_path / ".env")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    paths = (tmp_path, tmp_path / "none", tmp_path / "pipe", Path("/dev/zero"), Path("a\0b"), tmp_path / ("x" * 300))
    for path in paths:
        with pytest.raises(InvalidInput):
            dotenv.read(path)


def nested(width: int) -> str:
    """Five lines, each of which stands for the one above so many times."""
    return "A0=0123456789\n" + "".join(f"A{n}=" + f"${{A{n - 1}}}" * width + "\n" for n in range(1, 6))


def test_variables_in_variables_never_grow_beyond_measure() -> None:
    tracemalloc.start()
    try:
        found = dotenv.parse(nested(100))
        assert tracemalloc.get_traced_memory()[1] < 20 * dotenv.MAX_BYTES
    finally:
        tracemalloc.stop()
    assert list(found.values) == ["A0", "A1"]
    assert [problem.partition(":")[0] for problem in found.problems] == ["line 3", "line 4", "line 5", "line 6"]
    many = dotenv.parse("A=" + "x" * 60_000 + "\n" + "".join(f"B{n}=${{A}}\n" for n in range(200)))
    assert sum(map(len, many.values.values())) <= 2 * dotenv.MAX_BYTES
    assert len(many.problems) > 100


def test_a_path_is_told_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        dotenv.read(tmp_path / "a\x1b[31m\u202e\udcff")
    assert raised.value.message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        nested(80),
        "B=12345\n" + "".join(f"A{n}=${{B}}\n" for n in range(80_000)),
        "A='" + "\\" * 900_000,
        "A=1\n" * 60_000,
        "C=" + "${" * 400_000,
        "C=" + "${a:-" * 200_000,
        "C=x" + " " * 900_000 + "y",
        " " * 900_000 + "y",
        'A="x\n' * 40_000,
    ],
)
def test_a_file_made_to_be_slow_is_not(text: str) -> None:
    began = time.process_time()
    dotenv.parse(text)
    assert time.process_time() - began < 10
