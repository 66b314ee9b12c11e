"""What can be said to a provider in one word, on top of ``request`` and ``follow``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connections.wire import pages
from connections.wire.arguments import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

__all__ = ["Verbs"]

_PAGE_OPTIONS = frozenset(("deadline_ms", "headers", "max_body_bytes", "priority", "timeout_ms"))


class Verbs:
    """Each verb takes the options of `request` and raises as it does."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        raise NotImplementedError

    def follow(self, *args: Any, **options: Any) -> requests.Response:
        raise NotImplementedError

    def _paging(self, style: str | None, changes: Mapping[str, Any], options: Mapping[str, Any]) -> pages.Settings:
        """Return the settings of a walk through a list; ``options`` are those of its calls. Raises `InvalidInput`."""
        raise NotImplementedError

    def get(self, path: str, params: Any = None, **options: Any) -> requests.Response:
        return self.request("GET", path, params=params, **options)

    def post(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        return self.request("POST", path, data=data, **options)

    def put(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        return self.request("PUT", path, data=data, **options)

    def patch(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        return self.request("PATCH", path, data=data, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.request("DELETE", path, **options)

    def paginate(
        self,
        path: str,
        style: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Iterator[Any]:
        """Iterate over the items of a list, with one page at a time in memory.

        ``style`` (``page``, ``offset``, ``cursor``, ``link``, ``next_url``) and ``settings``, which are the fields of
        `pagination_config.Pagination`, go before what the provider configures. ``options`` are those of `follow`, for
        each page. Raises `InvalidInput` at once, and as `pages.walk` says while it iterates.
        """
        given = dict(options or {})
        if unknown := given.keys() - _PAGE_OPTIONS:
            raise refuse(f"options.{min(map(str, unknown))}", f"is none of {', '.join(sorted(_PAGE_OPTIONS))}")
        paging = self._paging(style, settings, given)

        def fetch(address: pages.Address) -> requests.Response:
            if address.url:
                return self.follow(address.url, **given)
            return self.get(path, address.params, **given)

        return pages.walk(fetch, paging, params)
