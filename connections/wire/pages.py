"""Walking through a list that a provider gives out in pages (seed 004, and the ``Link`` header of RFC 8288).

Each style is a generator that yields the next page's address and receives the page that came; what all of them have in
common, the bound on pages and the guard against going in circles, stands in `walk`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin

from connections.wire.arguments import refuse
from connections.wire.json_paths import look_up
from external_apis.errors import BadAnswer, PaginationBroken

if TYPE_CHECKING:
    import requests

__all__ = ["STYLES", "Address", "Fetch", "Settings", "walk"]

_USUAL_ITEM_PATHS = ("data", "items", "results", "records", "entries", "values", "value")
_DEFAULT_LIMIT = 100
_MOST_REPEATS, _MOST_EMPTY, _MOST_REMEMBERED = 10, 100, 10_000


class Settings(Protocol):
    """The fields of `external_apis.pagination_config.Pagination`, which tells what they mean."""

    @property
    def style(self) -> str: ...
    @property
    def items_path(self) -> str: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def limit_param(self) -> str: ...
    @property
    def page_param(self) -> str: ...
    @property
    def first_page(self) -> int: ...
    @property
    def offset_param(self) -> str: ...
    @property
    def cursor_param(self) -> str: ...
    @property
    def cursor_path(self) -> str: ...
    @property
    def next_path(self) -> str: ...
    @property
    def has_more_path(self) -> str: ...
    @property
    def max_pages(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where a page is: the list's own path with other parameters, or a URL that the provider gave."""

    params: Mapping[str, Any] | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page that came: its parsed body, and the items in it."""

    response: requests.Response
    body: Any
    items: list[Any]


Fetch = Callable[[Address], "requests.Response"]
Steps = Generator[Address, Page, None]


def walk(fetch: Fetch, settings: Settings, params: Mapping[str, Any] | None) -> Iterator[Any]:
    """Yield the items of all pages, fetching a page when its first item is asked for.

    Raises `PaginationBroken` for a provider that goes in circles or does not end, `BadAnswer` for a page that is not
    JSON, and whatever ``fetch`` raises. A page of the same items as one before is a circle where only we count the
    pages (``page`` and ``offset`` without ``has_more_path``): that is what a provider gives that does not know the
    parameter. One that says itself that more follows is believed ten times.
    """
    steps = STYLES[settings.style](settings, dict(params or {}))
    address = next(steps)
    repeats = _Repeats(_MOST_REPEATS if settings.has_more_path or settings.style not in ("page", "offset") else 0)
    empty = 0
    for _ in range(settings.max_pages):
        page = _read(fetch(address), settings)
        repeats.check(page.items)
        empty = 0 if page.items else empty + 1
        if empty > _MOST_EMPTY:
            raise PaginationBroken(f"The provider gave more than {_MOST_EMPTY} empty pages in a row.")
        yield from page.items
        if settings.has_more_path and not look_up(page.body, settings.has_more_path):
            return
        try:
            address = steps.send(page)
        except StopIteration:
            return
    raise PaginationBroken(f"The list did not end within {settings.max_pages} pages.")


class _Repeats:
    """Counts how often a page of the same items came; whatever else is in a body, such as its time, does not matter."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[bytes, int] = {}

    def check(self, items: list[Any]) -> None:
        """Raise `PaginationBroken` for a page that came too often."""
        if not items:
            return
        digest = hashlib.blake2b(json.dumps(items, sort_keys=True).encode(), digest_size=16).digest()
        times = self._seen.pop(digest, 0)
        if times > self._most:
            raise PaginationBroken("The provider gave the same page twice.")
        self._seen[digest] = times + 1
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.pop(next(iter(self._seen)))


def _by_page(settings: Settings, params: dict[str, Any]) -> Steps:
    """Seed 004's ``page`` and ``limit``: a page that is shorter than its limit is the last."""
    limit = _fix_limit(settings, params)
    number = _start(params, settings.page_param, settings.first_page)
    while True:
        page = yield Address({**params, settings.page_param: number})
        if _is_last(page, limit, settings):
            return
        number += 1


def _by_offset(settings: Settings, params: dict[str, Any]) -> Steps:
    limit = _fix_limit(settings, params)
    offset = _start(params, settings.offset_param, 0)
    while True:
        page = yield Address({**params, settings.offset_param: offset})
        if _is_last(page, limit, settings):
            return
        offset += len(page.items) or limit


def _by_cursor(settings: Settings, params: dict[str, Any]) -> Steps:
    """Seed 004's ``pagination.next_cursor``, wherever the provider puts it; Stripe's is the last item's id."""
    if settings.limit is not None:
        params.setdefault(settings.limit_param, settings.limit)
    page = yield Address(params)
    seen: set[str] = set()
    while (cursor := look_up(page.body, settings.cursor_path)) not in (None, "", False):
        if not isinstance(cursor, (str, int)):
            raise PaginationBroken(f"The cursor at {settings.cursor_path} is neither text nor a number.")
        if str(cursor) in seen:
            raise PaginationBroken("The provider gave the same cursor twice.")
        seen.add(str(cursor))
        page = yield Address({**params, settings.cursor_param: cursor})


def _by_link(settings: Settings, params: dict[str, Any]) -> Steps:
    """The ``Link`` header's ``rel="next"``, as GitHub and many others have it."""
    return _by_url(settings, params, _find_next_link)


def _find_next_link(page: Page) -> str | None:
    # A link may have several relations.
    links = page.response.links.values()
    return next((link["url"] for link in links if "next" in link.get("rel", "").lower().split()), None)


def _by_next_url(settings: Settings, params: dict[str, Any]) -> Steps:
    """A whole or relative URL in the body."""
    return _by_url(settings, params, lambda page: look_up(page.body, settings.next_path))


def _by_url(settings: Settings, params: dict[str, Any], find: Callable[[Page], Any]) -> Steps:
    if settings.limit is not None:
        params.setdefault(settings.limit_param, settings.limit)
    page = yield Address(params)
    seen = {page.response.url}
    while link := find(page):
        if not isinstance(link, str):
            raise PaginationBroken(f"What stands at {settings.next_path} is not a URL.")
        try:
            url = urljoin(page.response.url, link)
        except ValueError:
            raise PaginationBroken("The next page's address is not a URL.") from None
        if url in seen:
            raise PaginationBroken("The provider leads back to a page that was there already.")
        seen.add(url)
        page = yield Address(url=url)


STYLES: dict[str, Callable[[Settings, dict[str, Any]], Steps]] = {
    "page": _by_page,
    "offset": _by_offset,
    "cursor": _by_cursor,
    "link": _by_link,
    "next_url": _by_next_url,
}


def _fix_limit(settings: Settings, params: dict[str, Any]) -> int:
    limit = settings.limit or _DEFAULT_LIMIT
    return _start(params, settings.limit_param, limit, keep=True)


def _start(params: dict[str, Any], name: str, default: int, *, keep: bool = False) -> int:
    """Take a number that the caller gave as a parameter, else the default; ``keep`` leaves it among them."""
    try:
        value = int(params.pop(name, default))
    except (TypeError, ValueError):
        raise refuse(f"params.{name}", "is not a whole number") from None
    if keep:
        params[name] = value
    return value


def _is_last(page: Page, limit: int, settings: Settings) -> bool:
    # A provider that says whether there is more is believed, even where it gives shorter or empty pages.
    return not settings.has_more_path and len(page.items) < limit


def _read(response: requests.Response, settings: Settings) -> Page:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        raise BadAnswer("A page of the list is not JSON.") from None
    if settings.items_path:
        items = look_up(body, settings.items_path)
    elif isinstance(body, list):
        items = body
    else:
        items = next((found for path in _USUAL_ITEM_PATHS if isinstance(found := look_up(body, path), list)), None)
    if not isinstance(items, list):
        where = settings.items_path or f"any of {', '.join(_USUAL_ITEM_PATHS)}"
        raise PaginationBroken(f"A page of the list holds no array at {where}.")
    return Page(response, body, items)
