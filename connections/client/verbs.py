"""The verbs of `ApiClient`: those that both clients share, and GraphQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from connections.client import pagination
from connections.wire import graphql, verbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import requests

    from connections.client.composer import Composer
    from connections.client.outgoing import Outgoing
    from connections.client.retry import Clock
    from connections.client.slots import Lane
    from connections.client.target import Target
    from connections.wire import pages

__all__ = ["Priority", "Verbs"]

Priority = Literal["interactive", "batch"]


class Verbs(verbs.Verbs):
    target: Target
    _clock: Clock
    _composer: Composer
    _lane: Lane

    def _perform(self, request: Outgoing, *args: Any, **options: Any) -> requests.Response:
        raise NotImplementedError

    def _paging(self, style: str | None, changes: Mapping[str, Any], options: Mapping[str, Any]) -> pages.Settings:
        return pagination.read_settings(self.target.config.pagination, style, changes)

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
