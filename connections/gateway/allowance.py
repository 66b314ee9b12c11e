"""Which methods and paths a provider lets through its connections."""

from __future__ import annotations

import re
from functools import lru_cache
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
    if rules.paths:
        patterns = _compile(tuple(rules.paths))
        if not all(any(pattern.fullmatch(spelling) for pattern in patterns) for spelling in spellings(path)):
            raise Forbidden("The provider does not allow this path through its connections.")


@lru_cache(maxsize=1024)
def _compile(paths: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(
        re.compile(re.escape(path).replace(r"\*\*", ".*").replace(r"\*", "[^/]*"), re.DOTALL) for path in paths
    )
