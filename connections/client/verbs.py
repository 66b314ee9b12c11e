"""What can be said to a provider in one word, on top of `ApiClient.request` and `ApiClient.follow`."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

from connections.client import graphql, pagination
from external_apis.errors import GraphqlError, UpstreamClientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from connections.client.retry import Clock, RetryPolicy
    from connections.client.slots import Lane
    from connections.client.target import Target

__all__ = ["Verbs"]

_DEADLINE_MS = 120_000


class Verbs:
    """Each verb takes the options of `request` and raises as it does."""

    target: Target
    _clock: Clock
    _policy: RetryPolicy
    _lane: Lane

    def request(self, *args: Any, **options: Any) -> requests.Response:
        raise NotImplementedError

    def follow(self, *args: Any, **options: Any) -> requests.Response:
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
        `pagination_config.Pagination`, go before what the provider configures. ``options`` are those of `request`, for
        each page. Raises `InvalidInput` at once, and as `pagination.walk` says while it iterates.
        """
        paging = pagination.read_settings(self.target.config.pagination, style, settings)
        given = dict(options or {})

        def fetch(address: pagination.Address) -> requests.Response:
            if address.url:
                return self.follow(address.url, **given)
            return self.get(path, address.params, **given)

        return pagination.walk(fetch, paging, params)

    def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        operation_name: str | None = None,
        path: str | None = None,
        deadline_ms: int = _DEADLINE_MS,
        **options: Any,
    ) -> Any:
        """Run one operation and return its ``data``; ``path`` is the provider's ``graphql_path`` unless given.

        Raises `GraphqlError` for ``errors`` in the answer. An operation that was refused for its cost is tried again,
        like any refusal, once the provider's budget has grown, within the deadline.
        """
        body = graphql.build_body(query, variables, operation_name)
        path = path or self.target.config.graphql_path or "/graphql"
        until = self._clock.monotonic() + deadline_ms / 1000
        for attempt in count(1):
            remaining_ms = max(1, int((until - self._clock.monotonic()) * 1000))
            try:
                return self._ask(path, body, deadline_ms=remaining_ms, **options)
            except GraphqlError as error:
                wait = error.retry_after_seconds
                if wait is None or attempt >= self._policy.max_attempts or self._clock.monotonic() + wait >= until:
                    raise
            self._clock.sleep(wait)
        raise AssertionError("unreachable")  # count() does not end

    def _ask(self, path: str, body: Mapping[str, Any], **options: Any) -> Any:
        secrets = self.target.secrets()
        try:
            response = self.request("POST", path, json=body, **options)
        except UpstreamClientError as error:
            try:
                refusal = graphql.read_refusal(json.loads(error.body), secrets, now=self._clock.now())
            except (ValueError, RecursionError):
                refusal = None
            if refusal is None:
                raise
            raise refusal from None
        if (cost := graphql.read_cost(response, now=self._clock.now())) is not None and cost.wait_seconds:
            self._lane.slow_down(cost.wait_seconds)
        return graphql.read_data(response, secrets, now=self._clock.now())
