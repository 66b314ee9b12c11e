"""Turns a post's Markdown into HTML that can do nothing but be read."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import nh3
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore

__all__ = ["render"]


def _lower_headings(state: StateCore) -> None:
    """The page's own heading is the title alone."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"


# CommonMark (spec.commonmark.org) with the tables and strikethrough of GFM. HTML in the text is shown as text. Without
# reference definitions: a long one that is named ten thousand times would make 250 MB of 80 KB.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")
_MARKDOWN.core.ruler.push("lower_headings", _lower_headings)

_TAGS = {
    "a", "blockquote", "br", "code", "em", "h2", "h3", "h4", "h5", "h6", "hr", "img", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title"}, "ol": {"start"}}
_KEPT_CHARACTERS = 16_000_000  # of all posts of most blogs, and 16 to 64 MB at the worst


def _without_foreign_images(tag: str, attribute: str, value: str) -> str | None:
    """Images come by https, so that a page has no mixed content and its policy need not name us."""
    if tag == "img" and attribute == "src" and not value.lower().startswith("https://"):
        return None
    return value


_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    attribute_filter=_without_foreign_images,
    link_rel="noopener nofollow",
    url_schemes={"http", "https", "mailto"},
)


class _Kept:
    """HTML by the digest of its Markdown: what was read last, `_KEPT_CHARACTERS` of it at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: OrderedDict[bytes, SafeString] = OrderedDict()
        self._size = 0

    def get(self, key: bytes) -> SafeString | None:
        with self._lock:
            if (page := self._pages.get(key)) is not None:
                self._pages.move_to_end(key)
            return page

    def put(self, key: bytes, page: SafeString) -> None:
        with self._lock:
            if key not in self._pages:
                self._pages[key] = page
                self._size += len(page)
            while self._size > _KEPT_CHARACTERS:
                self._size -= len(self._pages.popitem(last=False)[1])


_kept = _Kept()


def render(markdown: str) -> SafeString:
    """Return sanitised HTML; that of the latest posts is kept, because a long one takes a second.

    The parser writes tags of its own alone, and what it writes is sanitised all the same: neither has to be right.
    """
    key = hashlib.sha256(markdown.encode()).digest()
    if (page := _kept.get(key)) is None:
        page = _render(markdown)
        _kept.put(key, page)
    return page


def _render(markdown: str) -> SafeString:
    return SafeString(_CLEANER.clean(_MARKDOWN.render(markdown)))
