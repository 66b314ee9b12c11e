"""From the path behind a connection's id to the path below the provider's base URL, and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from connections.wire.arguments import refuse

__all__ = ["Route", "read_route", "spellings"]

_DRY_RUN = "dry_run=curl"
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\\]")
_MOST_UNQUOTINGS = 10


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` begins with a slash and stands below the base URL; both are as the client's composer takes them."""

    path: str
    query: str
    is_dry_run: bool


def read_route(tail: str, query: str, base_path: str) -> Route:
    """Read what follows the connection's id: ``tail``, which the web server has decoded once, and the query as sent.

    SDKs whose base URL is a bare origin repeat the path of the provider's base URL; it is not doubled. An encoded slash
    reaches us as a plain one; a ``%252F`` as ``%2F``, and the provider as that. Raises `InvalidInput` for a path with
    empty, ``.`` or ``..`` segments, however often they are encoded, for control characters and backslashes, for what
    is not UTF-8, and for a ``dry_run`` that we do not know: it would be a real one.
    """
    path = f"/{tail.removeprefix('/')}"
    for spelling in spellings(path):
        if _UNSENDABLE.search(spelling):
            raise refuse("path", "holds a control character or a backslash")
        if any(segment.partition(";")[0] in (".", "..") for segment in spelling.split("/")):
            raise refuse("path", "holds a '.' or '..' segment")
        if "//" in spelling:
            raise refuse("path", "holds two slashes in a row")
    if tail.startswith("//"):
        raise refuse("path", "holds two slashes in a row")
    base = base_path.rstrip("/")
    if base and (path == base or path.startswith(f"{base}/")):
        path = path.removeprefix(base) or "/"
    pairs = query.split("&")
    runs = [pair for pair in pairs if pair.partition("=")[0] == "dry_run"]
    if any(run != _DRY_RUN for run in runs):
        raise refuse("dry_run", "is none but 'curl'")
    if runs:
        query = "&".join(pair for pair in pairs if pair != _DRY_RUN)
    return Route(path.replace("?", "%3F").replace("#", "%23"), query, bool(runs))


def spellings(path: str) -> list[str]:
    """Return a path as it is and as whoever decodes it once more reads it, until nothing changes.

    Raises `InvalidInput` when that takes too long, or for what is not UTF-8: overlong forms of a dot are not.
    """
    found = [path]
    while len(found) <= _MOST_UNQUOTINGS:
        try:
            following = unquote_to_bytes(found[-1]).decode()
        except UnicodeError:
            raise refuse("path", "is not UTF-8") from None
        if following == found[-1]:
            return found
        found.append(following)
    raise refuse("path", "is encoded too often")
