"""Which methods and paths a provider lets through its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connections.gateway.paths import spellings
from external_apis.errors import Forbidden

if TYPE_CHECKING:
    from external_apis.call_config import Proxy

__all__ = ["check_allowed"]


def check_allowed(rules: Proxy | None, method: str, path: str) -> None:
    """Raise `Forbidden` for a call that the provider's ``proxy`` block does not allow.

    A pattern has to match the path as it is sent and as a server that decodes it sees it. Whoever may GET may HEAD.
    """
    if rules is None:
        return
    asked = "GET" if method == "HEAD" and "HEAD" not in rules.methods else method
    if rules.methods and asked not in rules.methods:
        raise Forbidden(f"The provider does not allow {method} through its connections.")
    if rules.paths and not all(any(_matches(rule, text) for rule in rules.paths) for text in spellings(path)):
        raise Forbidden("The provider does not allow this path through its connections.")


def _matches(pattern: str, path: str) -> bool:
    """Match ``*`` to anything but a slash, and ``**`` to that too, in a time that grows with the product of both.

    Of what a star may stand for only the last one's share is ever tried again, and of ``*`` only within its segment;
    a regular expression would try all stars against each other.
    """
    at, here = 0, 0
    star = wide = (-1, -1)
    while at < len(path) or here < len(pattern):
        if pattern.startswith("**", here):
            here += 2
            star, wide = (-1, -1), (here, at)
        elif pattern.startswith("*", here):
            here += 1
            star = (here, at)
        elif at < len(path) and here < len(pattern) and pattern[here] == path[at]:
            at, here = at + 1, here + 1
        elif star[0] >= 0 and star[1] < len(path) and path[star[1]] != "/":
            star = (star[0], star[1] + 1)
            here, at = star
        elif wide[0] >= 0 and wide[1] < len(path):
            wide = (wide[0], wide[1] + 1)
            star = (-1, -1)
            here, at = wide
        else:
            return False
    return True
