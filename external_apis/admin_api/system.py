"""``/api/external/system``: health, self-tests, caches, the audit log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from django.urls import path
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis import audit_log, caches, health, self_tests
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, CamelModel, PageQuery, answers, lists, reads, writes
from external_apis.envelope import camel_name
from external_apis.errors import ServiceUnavailable
from external_apis.json_output import Timestamp
from external_apis.models import AuditEvent
from external_apis.paging import recent_estimate
from external_apis.time_input import Moment


class CheckFacts(CamelAnswer):
    status: str
    """`ok`, or what is wrong."""
    latency_ms: float
    seconds_since: float | None = None
    """Of a process: how long ago it last gave a sign of life."""


class Health(CamelAnswer):
    status: str
    """`ok`, or `degraded` where work in the background stays undone; what is down altogether is a 503."""
    checks: dict[str, CheckFacts]


class TestFacts(CamelAnswer):
    name: str
    tells: str
    is_passed: bool
    message: str
    """What is wrong, empty where the test passed."""
    duration_ms: float


class TestReport(CamelAnswer):
    passed: int
    failed: int
    results: list[TestFacts]


class TestChoice(CamelModel):
    tests: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """Names of tests; all of them where it is left out."""


class Cleared(CamelAnswer):
    cleared: list[str]


class AuditItem(CamelAnswer):
    id: str
    at: Timestamp
    actor: str
    """`key:<id>`, `user:<name>`, `command:<name>` or `system`."""
    api_key_id: str
    address: str | None
    request_id: str
    action: str
    object_type: str
    object_id: str
    tenant_id: str | None
    changes: dict[str, Any]
    """`{"field": [before, after]}`, of secrets their fingerprints."""


class AuditQuery(PageQuery):
    actor: Annotated[str, Field(max_length=200)] = ""
    action: Annotated[str, Field(max_length=60)] = ""
    """Such as `connection.updated`."""
    object: Annotated[str, Field(max_length=100)] = ""
    """The id of what was changed or read."""
    object_type: Annotated[str, Field(max_length=60)] = ""
    since: Annotated[Moment | None, Field(alias="from")] = None
    """The first moment, with its offset: `2026-01-15T10:30:00Z`."""
    until: Annotated[Moment | None, Field(alias="to")] = None
    """The moment after the last one."""


class HealthPage(ResourceView):
    @answers("get_health", Health, "Tell whether everything works: 503 where something does not")
    def get(self, request: Request) -> Response:
        checks = health.check_all()
        shown = {
            camel_name(check.name): CheckFacts(
                status=check.status, latency_ms=check.latency_ms, seconds_since=check.seconds_since
            ).model_dump(by_alias=True, exclude_none=True)
            for check in checks
        }
        if down := [check.name for check in checks if check.is_vital and not check.is_ok]:
            raise ServiceUnavailable(f"Not available: {', '.join(down)}.", details={"checks": shown})
        is_well = all(check.is_ok for check in checks)
        return self.answer({"status": "ok" if is_well else "degraded", "checks": shown})


class Tests(ResourceView):
    @reads("run_read_only_tests", "system:read", TestReport, "Run the self-tests that only read")
    def get(self, request: Request) -> Response:
        return self.answer(_report(self_tests.run()))

    @writes("run_tests", "system:write", TestChoice, TestReport, "Run all self-tests, or the named ones")
    def post(self, request: Request) -> Response:
        names = self.given.get("tests", [test.name for test in self_tests.SELF_TESTS])
        return self.answer(_report(self_tests.run(names)))


class CacheClearing(ResourceView):
    @writes("clear_caches", "system:write", None, Cleared, "Let go of everything that is kept for quickness")
    def post(self, request: Request) -> Response:
        self.require_live()
        self.require_operator()
        return self.answer({"cleared": list(caches.clear())})


class AuditLog(ResourceView):
    """Beyond 10,000 events the total is the database's estimate; whether there is a next page is always exact."""

    @lists("list_audit_events", "audit:read", AuditItem, AuditQuery, "Read the audit log, newest first")
    def get(self, request: Request) -> Response:
        filters = self.query.filters()
        filters["object_id"] = filters.pop("object", "")
        return self.page(audit_log.find_events(self.scope, **filters), _shown_event, recent_estimate)


def _shown_event(event: AuditEvent) -> dict[str, Any]:
    item = AuditItem.model_construct(**{name: getattr(event, name) for name in AuditItem.model_fields})
    return item.model_dump(mode="json", by_alias=True)


def _report(results: list[self_tests.Result]) -> dict[str, Any]:
    passed = sum(result.is_passed for result in results)
    shown = [TestFacts(**asdict(result)) for result in results]
    return TestReport(passed=passed, failed=len(results) - passed, results=shown).model_dump(by_alias=True)


routes = [
    path("system/health", HealthPage.as_view()),
    path("system/tests", Tests.as_view()),
    path("system/cache/clear", CacheClearing.as_view()),
    path("system/audit-log", AuditLog.as_view()),
]
