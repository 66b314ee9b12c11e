"""A caller's path below a base URL, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from connections.wire.arguments import refuse

__all__ = ["fill_path", "join_path"]

_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9_~:@,-]+(\.[A-Za-z0-9_~:@,-]+)*)*/?")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|//|\\")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\#]")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]{0,63})\}")
_PATH_SAFE, _QUERY_SAFE = "/:@!$&'()*+,;=~%", "/?:@!$&'()*+,;=~%"


def join_path(base_path: str, path: str) -> str:
    """Append a caller's path, which may have a query, to the base URL's path and encode what needs it.

    Raises `InvalidInput` for whatever could lead elsewhere: absolute URLs, ``//host``, ``..`` segments however they are
    spelled, control characters, backslashes, fragments.
    """
    if not isinstance(path, str):
        raise refuse("path", "is not text")
    base = base_path.rstrip("/")
    if not path:
        return base or "/"
    if not path.startswith("/"):
        if _ABSOLUTE.match(path):
            raise refuse("path", "is a path below the provider's base URL, not a URL")
        path = f"/{path}"
    if _PLAIN_PATH.fullmatch(path):
        return base + path
    if path.startswith("//") or _CONTROL.search(path):
        raise refuse("path", "begins with two slashes, or holds a control character, a backslash or a fragment")
    route, mark, query = path.partition("?")
    if any(segment.partition(";")[0] == ".." for segment in re.split(r"[/\\]", unquote(unquote(route)))):
        raise refuse("path", "holds a '..' segment")
    return base + _encode(route, _PATH_SAFE) + mark + _encode(query, _QUERY_SAFE)


def _encode(text: str, safe: str) -> str:
    try:
        return quote(_STRAY_PERCENT.sub("%25", text), safe=safe)
    except UnicodeEncodeError:
        raise refuse("path", "holds characters that UTF-8 cannot carry") from None


def fill_path(path: str, variables: Mapping[str, str | None]) -> str:
    """Put values into a path where it names them in braces, percent-encoded; raises `InvalidInput` for a missing one.

    Names that the provider does not declare stay as they are.
    """

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name not in variables:
            return match[0]
        if (value := variables[name]) is None:
            raise refuse("path", f"needs provider_data.{name}, which the connection lacks")
        return quote(value, safe="")

    return _VARIABLE.sub(put, path) if isinstance(path, str) else path
