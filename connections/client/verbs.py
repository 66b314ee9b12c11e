"""What can be said to a provider in one word, on top of `ApiClient.request` and `ApiClient.follow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from connections.client import pagination
from connections.wire import graphql, pages
from connections.wire.arguments import refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import requests

    from connections.client.composer import Composer
    from connections.client.outgoing import Outgoing
    from connections.client.retry import Clock
    from connections.client.slots import Lane
    from connections.client.target import Target

__all__ = ["Priority", "Verbs"]

Priority = Literal["interactive", "batch"]
_PAGE_OPTIONS = frozenset(("deadline_ms", "headers", "max_body_bytes", "priority", "timeout_ms"))


class Verbs:
    """Each verb takes the options of `request` and raises as it does."""

    target: Target
    _clock: Clock
    _composer: Composer
    _lane: Lane

    def request(self, *args: Any, **options: Any) -> requests.Response:
        raise NotImplementedError

    def follow(self, *args: Any, **options: Any) -> requests.Response:
        raise NotImplementedError

    def _perform(self, request: Outgoing, *args: Any, **options: Any) -> requests.Response:
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
        paging = pagination.read_settings(self.target.config.pagination, style, settings)
        given = dict(options or {})
        if unknown := given.keys() - _PAGE_OPTIONS:
            raise refuse(f"options.{min(map(str, unknown))}", f"is none of {', '.join(sorted(_PAGE_OPTIONS))}")

        def fetch(address: pages.Address) -> requests.Response:
            if address.url:
                return self.follow(address.url, **given)
            return self.get(path, address.params, **given)

        return pages.walk(fetch, paging, params)

    def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        operation_name: str | None = None,
        path: str | None = None,
        params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        deadline_ms: int | None = None,
        priority: Priority = "interactive",
        max_body_bytes: int | None = None,
    ) -> Any:
        """Run one operation and return its ``data``; ``path`` is the provider's ``graphql_path`` unless given.

        Raises `GraphqlError` for ``errors`` in the answer. An operation that was refused for its cost, and did nothing,
        is tried again like any refusal once the provider's budget has grown, as part of the same call.
        """
        body = graphql.build_body(query, variables, operation_name)
        path = path or self.target.config.graphql_path or "/graphql"
        request = self._composer.compose("POST", path, params, None, body, headers)
        reader = graphql.Reader(self.target.secrets(), self._clock.now, self._lane.slow_down)
        self._perform(request, timeout_ms, deadline_ms, priority, max_body_bytes=max_body_bytes, reader=reader)
        return reader.data
