"""A request as a curl command that can be shown and pasted: every credential is a ``$PLACEHOLDER`` of the shell.

The credential's own name where its value stands in the request (``$ACCESS_TOKEN``), the header's name where something
was made of it (``$X_SIGNATURE``), and the field's name for what the caller's data calls a secret (``$PASSWORD``).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from connections.client.events import is_telling

if TYPE_CHECKING:
    from connections.client.outgoing import Outgoing

__all__ = ["build_curl"]

# Around a placeholder's name while a text is put together; neither can stand in a URL, a header or JSON of ours.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKED = re.compile(f"{_OPEN}([A-Z0-9_]+){_CLOSE}")
_SHORTEST, _LONGEST_WORD = 4, 24
_CURLS_OWN = frozenset(("accept-encoding", "user-agent"))


def build_curl(
    unsigned: Outgoing,
    signed: Outgoing,
    secrets: Mapping[str, str],
    *,
    key_header: str | None = None,
    has_certificate: bool = False,
) -> str:
    """Return the command for ``signed``; ``secrets`` are the target's, by name.

    ``key_header`` names the idempotency key that each call gets anew, so that it is a placeholder too; a client
    certificate and its key are files, ``$CERTIFICATE_FILE`` and ``$KEY_FILE``.
    """
    marks = _marks_of(secrets)
    parts = ["curl", *_method_of(signed), _quote(_mark(_url_of(unsigned, signed, marks), marks))]
    before = unsigned.headers.as_dict()
    for name, value in signed.headers.as_dict().items():
        if name.lower() in _CURLS_OWN:
            continue
        text = _mark(value, marks)
        if (before.get(name) != value or is_telling(name)) and not _is_plain(text):
            scheme, space, _ = value.partition(" ")
            text = f"{scheme} {_placeholder(name)}" if space and scheme.isalpha() else _placeholder(name)
        parts += ["-H", _quote(f"{name}: {text}")]
    if key_header is not None:
        parts += ["-H", _quote(f"{key_header}: {_placeholder(key_header)}")]
    if has_certificate:
        parts += ["--cert", _quote(_placeholder("certificate_file")), "--key", _quote(_placeholder("key_file"))]
    parts += ["--compressed", *_body_of(signed, marks)]
    return " ".join(parts)


def _method_of(request: Outgoing) -> list[str]:
    return ["--head"] if request.method == "HEAD" else ["-X", request.method]


def _url_of(unsigned: Outgoing, signed: Outgoing, marks: Mapping[str, str]) -> str:
    path, mark, query = signed.target.partition("?")
    known = set(unsigned.target.partition("?")[2].split("&"))
    pairs = [_hide_pair(pair, marks, is_known=pair in known) for pair in query.split("&")] if mark else []
    return f"{signed.origin}{path}{mark}{'&'.join(pairs)}"


def _is_plain(text: str) -> bool:
    """Tell whether a header is a credential and no more than a word around it: what was computed is longer."""
    return bool(_MARKED.search(text)) and len(_MARKED.sub("", text)) <= _LONGEST_WORD


def _hide_pair(pair: str, marks: Mapping[str, str], *, is_known: bool) -> str:
    name, equals, value = pair.partition("=")
    if is_known and not is_telling(name):
        return pair
    marked = _mark(value, marks)
    return f"{name}{equals}{marked if _MARKED.search(marked) else _placeholder(name)}"


def _body_of(request: Outgoing, marks: Mapping[str, str]) -> list[str]:
    if request.upload is not None:
        return ["--data-binary", "@FILE"]
    if request.body is None:
        return []
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        return ["--data-binary", "@FILE"]
    kind = request.headers.get("Content-Type") or ""
    if _OPEN in text or "\0" in text:
        return ["--data-binary", "@FILE"]
    if kind.startswith("application/json"):
        text = _hide_json(text)
    elif kind.startswith("application/x-www-form-urlencoded"):
        text = "&".join(_hide_pair(pair, marks, is_known=True) for pair in text.split("&"))
    return ["--data-raw", _quote(_mark(text, marks))]


def _hide_json(text: str) -> str:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(_hidden(data), ensure_ascii=False, separators=(",", ":"))


def _hidden(data: Any, name: str = "") -> Any:
    if is_telling(name) and data not in (None, "", True, False):
        return _placeholder(name)
    if isinstance(data, dict):
        return {key: _hidden(value, key) for key, value in data.items()}
    if isinstance(data, list):
        return [_hidden(item) for item in data]
    return data


def _marks_of(secrets: Mapping[str, str]) -> dict[str, str]:
    """Map each spelling of each secret to its placeholder, longest first; very short ones occur by chance."""
    spellings = {
        spelling: _placeholder(name)
        for name, value in secrets.items()
        for spelling in (value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1])
        if len(value) >= _SHORTEST
    }
    return dict(sorted(spellings.items(), key=lambda item: -len(item[0])))


def _mark(text: str, marks: Mapping[str, str]) -> str:
    for spelling, placeholder in marks.items():
        text = text.replace(spelling, placeholder)
    return text


def _placeholder(name: str) -> str:
    word = re.sub(r"[^A-Z0-9]+", "_", name.rpartition(".")[2].upper()).strip("_") or "SECRET"
    return f"{_OPEN}{f'_{word}' if word[0].isdigit() else word}{_CLOSE}"


def _quote(text: str) -> str:
    """Quote for a POSIX shell, but let placeholders be variables: ``'Bearer '"$ACCESS_TOKEN"``."""
    pieces = _MARKED.split(text)
    return (
        "".join(f'"${piece}"' if index % 2 else shlex.quote(piece) for index, piece in enumerate(pieces) if piece)
        or "''"
    )
