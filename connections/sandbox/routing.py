"""The route table: a pattern, the methods it takes, and the handler."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from connections.sandbox.answers import Refusal, Reply
from connections.sandbox.request import Request
from connections.sandbox.state import State

Handler = Callable[[Request, State], Reply]

ANY: frozenset[str] = frozenset()
GET = frozenset({"GET", "HEAD"})
POST = frozenset({"POST"})


@dataclass(frozen=True, slots=True)
class Route:
    """``{name}`` in the pattern stands for one segment, ``{name*}`` at its end for all that follows, or nothing."""

    pattern: str
    handler: Handler
    methods: frozenset[str] = ANY
    about: str = ""


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed = {route.pattern: route for route in self.routes if "{" not in route.pattern}
        self._open = [(_compile(route.pattern), route) for route in self.routes if "{" in route.pattern]

    def find(self, request: Request) -> Route:
        """The route of a request; fills ``request.arguments``.

        :raises Refusal: 404 for an unknown path, 405 for a method that the path does not take.
        """
        route = self._fixed.get(request.path) or self._find_open(request)
        if route is None:
            raise Refusal(404, "not_found", "No such path here; GET / lists them all")
        if route.methods and request.method not in route.methods:
            allowed = ", ".join(sorted(route.methods))
            raise Refusal(405, "method_not_allowed", f"This path takes {allowed}", {"Allow": allowed})
        return route

    def _find_open(self, request: Request) -> Route | None:
        for expression, route in self._open:
            if match := expression.fullmatch(request.path):
                request.arguments = match.groupdict("")
                return route
        return None


def _compile(pattern: str) -> re.Pattern[str]:
    escaped = re.sub(r"/\{(\w+)\*\}", r"(?:/(?P<\1>.*))?", pattern)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", escaped), re.DOTALL)
