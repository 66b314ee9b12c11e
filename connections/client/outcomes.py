"""What an answer means: by its status, or by the provider's own rules (in Airbyte's vocabulary) where one matches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from connections.wire.json_paths import look_up

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from external_apis.call_config import ResponseRule
    from external_apis.transport import Answer

__all__ = ["Action", "Outcomes", "Verdict"]

Action = Literal["success", "fail", "retry", "rate_limited", "refresh_then_retry"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``message`` is what the matching rule has to say."""

    action: Action
    message: str = ""


class Outcomes:
    """Judges the answers of one provider."""

    def __init__(self, rules: Sequence[ResponseRule], retry_statuses: Collection[int]) -> None:
        self._rules = tuple(rules)
        self._retry_statuses = frozenset(retry_statuses)
        self.read_bodies = any(rule.body_path or rule.body_contains for rule in rules)

    def judge(self, answer: Answer) -> Verdict:
        if self._rules:
            body = _Body(answer)
            for rule in self._rules:
                if _matches(rule, answer, body):
                    return Verdict(rule.action, rule.error_message)
        return Verdict(self._judge_status(answer.status))

    def _judge_status(self, status: int) -> Action:
        if status < 400:
            return "success"
        if status == 401:
            return "refresh_then_retry"
        if status == 429:
            return "rate_limited"
        return "retry" if status >= 500 or status in self._retry_statuses else "fail"


class _Body:
    """An answer's body, read as text and as JSON only when a rule asks for it."""

    def __init__(self, answer: Answer) -> None:
        self._bytes = answer.body  # empty where it is streamed

    @cached_property
    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace")

    @cached_property
    def json(self) -> Any:
        try:
            return json.loads(self._bytes) if self._bytes else None
        except (ValueError, RecursionError):
            return None


def _matches(rule: ResponseRule, answer: Answer, body: _Body) -> bool:
    if rule.http_codes and answer.status not in rule.http_codes:
        return False
    if rule.header_name is not None:
        value = answer.headers.get(rule.header_name)
        if value is None or (rule.header_value is not None and rule.header_value.lower() not in value.lower()):
            return False
    if rule.body_path is None:
        return rule.body_contains is None or rule.body_contains in body.text
    found = look_up(body.json, rule.body_path)
    if found is None:
        return False
    if rule.body_equals is not None and not _is_equal(found, rule.body_equals):
        return False
    return rule.body_contains is None or rule.body_contains in _as_text(found)


def _is_equal(found: Any, expected: str | float | bool) -> bool:
    # True is no 1 in JSON.
    return isinstance(found, bool) is isinstance(expected, bool) and bool(found == expected)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
