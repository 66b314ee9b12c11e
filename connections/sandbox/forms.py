"""Nested form keys as Stripe writes them: ``a[b][0]=c``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from connections.sandbox.answers import Refusal, Reply, answer_json
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import POST, Route
from connections.sandbox.state import State

DEPTH = 10

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The tree that the keys describe; ``[]`` appends, and keys 0, 1, 2, … in any order make a list.

    :raises Refusal: 400 for a malformed key, one that is too deep, or two that contradict each other.
    """
    root: dict[str, Any] = {}
    for key, value in pairs:
        match = _KEY.fullmatch(key)
        if match is None:
            raise Refusal(400, "bad_form_key", "A form key is malformed")
        steps = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        if len(steps) > DEPTH:
            raise Refusal(400, "bad_form_key", f"A form key is nested deeper than {DEPTH}")
        _plant(root, steps, value)
    return {name: _settle(branch) for name, branch in root.items()}


def _plant(node: dict[str, Any], steps: list[str], value: str) -> None:
    for step in steps[:-1]:
        node = node.setdefault(step or str(len(node)), {})
        if not isinstance(node, dict):
            raise Refusal(400, "bad_form_key", "A form key is both a value and a branch")
    leaf = steps[-1] or str(len(node))
    if leaf in node:
        raise Refusal(400, "bad_form_key", "A form key was sent twice")
    node[leaf] = value


def _settle(branch: Any) -> Any:
    if not isinstance(branch, dict):
        return branch
    settled = {key: _settle(value) for key, value in branch.items()}
    if set(settled) == {str(number) for number in range(len(settled))}:
        return [settled[str(number)] for number in range(len(settled))]
    return settled


def receive_form(request: Request, _state: State) -> Reply:
    if request.content_type != "application/x-www-form-urlencoded":
        raise Refusal(415, "form_required", "The Content-Type must be application/x-www-form-urlencoded")
    try:
        text = request.body.decode("ascii")
    except UnicodeDecodeError as error:
        raise Refusal(400, "bad_form", "A form is percent-encoded ASCII") from error
    return answer_json({"object": "form", "form": nest(parse_pairs(text)), "raw": text})


ROUTES = (Route("/form", receive_form, POST, "takes a form alone, and answers with its nested parse"),)
