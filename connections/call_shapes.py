"""Checks, where somebody registers a function, that it can be called as it will be."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any

__all__ = ["require_arguments"]


def require_arguments(function: Callable[..., Any], *names: str, has_keywords: bool = False) -> Signature:
    """Return a function's signature; with ``has_keywords`` it may need more, which are given by their names.

    Raises `ValueError`, which names the function, where it does not take ``names`` by their places.
    """
    shape, wanted = signature(function), ", ".join(names)
    places = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    more = [one for one in list(shape.parameters.values())[len(names) :] if one.kind in places]
    try:
        shape.bind_partial(*names) if has_keywords else shape.bind(*names)
        fits = not (has_keywords and any(one.kind is Parameter.POSITIONAL_ONLY for one in more))
    except TypeError:
        fits = False
    if not fits:
        by_name = ", and the rest by their names" if has_keywords else ""
        name = getattr(function, "__qualname__", repr(function))
        raise ValueError(f"{name}{shape} is to take ({wanted}){by_name}")
    return shape
