"""``/api/external/workflows``: what workflows there are, and their runs: start, list, show, cancel, retry, take."""

from __future__ import annotations

from typing import Annotated, Any

from django.urls import path
from pydantic import Field, StrictBool
from rest_framework.request import Request
from rest_framework.response import Response

from connections import workflows
from connections.models import WorkflowRun
from connections.workflows import RunStatus, waiting
from connections.workflows.definitions import Workflow
from connections.workflows.runs import MAX_KEY_LENGTH, of_status, visible
from connections.workflows.showing import shown_current_step, shown_input, shown_result, shown_steps
from connections.workflows.waiting import LONGEST_WAIT_SECONDS
from external_apis import envelope
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, CamelModel, PageQuery, Query, lists, reads, writes
from external_apis.json_output import Timestamp
from external_apis.key_granting import Granter, granter_of
from external_apis.provider_input import RowId
from external_apis.query_input import DIGITS_ALONE


class WorkflowFacts(CamelAnswer):
    name: str
    description: str
    input_schema: dict[str, Any]
    """JSON Schema of what a run is started with."""
    is_scheduled: bool
    schedule: str | None
    """Its times in UTC: `0 3 * * *` as crontab has it, or `every 3600 s`, counted from 1970."""
    needs: str
    """The scope that starting, cancelling and retrying it needs beside `workflows:write`; mostly none."""


class RunItem(CamelAnswer):
    id: str
    workflow: str
    status: RunStatus
    """`waiting` is between two attempts of a step."""
    sales_channel_id: str | None
    """The tenant."""
    error_code: str
    error_message: str
    """Why it failed, or why the last attempt of a step did."""
    retry_of: str | None
    """The run that it is another attempt of."""
    hands_over: bool
    """Whether there is something to be taken once."""
    started_by: str
    request_id: str
    created_at: Timestamp
    cancel_requested_at: Timestamp | None
    next_attempt_at: Timestamp | None
    finished_at: Timestamp | None


class StepFacts(CamelAnswer):
    position: int
    name: str
    state: str
    """`done` or `failed`."""
    input: Any
    result: Any
    error_code: str
    error_message: str
    tries: int
    """How often it failed."""
    may_have_happened: bool
    """Of a failed one: whether it may have had an effect."""
    started_at: Timestamp
    finished_at: Timestamp
    undo: str
    """What came of its compensation: `done`, `failed`, or nothing."""
    undo_error: str
    undone_at: Timestamp | None


class CurrentStep(CamelAnswer):
    position: int
    name: str
    is_being_undone: bool
    tries: int
    """How often it failed, or its compensation did."""
    started_at: Timestamp | None
    """When the last attempt began."""
    error_code: str
    error_message: str
    """Why that did not succeed; of a compensation the message alone."""
    next_attempt_at: Timestamp | None


class RunFacts(RunItem):
    """Of inputs and results text is masked, unless its name says that it is an id or a state."""

    input: Any
    current_step: CurrentStep | None
    """The one that is being done or undone, or waits to be tried again; known some seconds after it has begun."""
    result: Any
    steps: list[StepFacts]


class TakenOver(CamelAnswer):
    secrets: dict[str, str]


class StartBody(CamelModel):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Of the workflow."""
    input: Annotated[dict[str, Any], Field(default_factory=dict)]
    """As the workflow's `inputSchema` has it."""
    idempotency_key: Annotated[str, Field(max_length=MAX_KEY_LENGTH)] = ""
    """The same key gives the run that there is."""
    sales_channel_id: RowId | None = None
    """The tenant that it runs for; one's own unless given."""


class RetryBody(CamelModel):
    confirm: StrictBool = False
    """Begin another run in spite of steps that were done, or may have been, and are not undone."""


class WaitQuery(Query):
    wait: Annotated[int, Field(ge=0, le=LONGEST_WAIT_SECONDS), DIGITS_ALONE] = 0
    """So many seconds, at most 25, for the run to finish; it is answered as it is then, or at once while many wait."""


class RunQuery(PageQuery):
    workflow: Annotated[str, Field(max_length=100)] = ""
    status: RunStatus = RunStatus.PENDING


class WorkflowList(ResourceView):
    @lists("list_workflows", "workflows:read", WorkflowFacts, PageQuery, "List the workflows that can be started")
    def get(self, request: Request) -> Response:
        assert isinstance(self.query, PageQuery)  # noqa: S101 (tells the type checker)
        found = workflows.workflows()
        page, size = self.query.page, self.query.per_page
        shown = [_workflow(one) for one in found[(page - 1) * size : page * size]]
        pages = envelope.pagination(page, size, len(found), has_next=page * size < len(found))
        return self.answer_page(shown, pages)

    @writes("start_workflow", "workflows:write", StartBody, RunFacts, "Start a workflow", status=201)
    def post(self, request: Request) -> Response:
        given = self.given
        run = workflows.start(
            given["name"],
            given.get("input"),
            idempotency_key=given.get("idempotency_key", ""),
            tenant=given.get("sales_channel_id"),
            granter=_granter(self),
        )
        return self.answer(_facts(run))


class RunList(ResourceView):
    @lists("list_workflow_runs", "workflows:read", RunItem, RunQuery, "List runs, the latest first")
    def get(self, request: Request) -> Response:
        filters = self.query.filters()
        rows = visible(self.scope).defer("input", "result")
        if "workflow" in filters:
            rows = rows.filter(workflow=filters["workflow"])
        if "status" in filters:
            rows = of_status(rows, filters["status"])
        return self.page(rows, lambda run: _shown(RunItem, run))


class RunPage(ResourceView):
    @reads("get_workflow_run", "workflows:read", RunFacts, "Show a run with its steps, or wait for its end", WaitQuery)
    def get(self, request: Request, run_id: str) -> Response:
        assert isinstance(self.query, WaitQuery)  # noqa: S101 (tells the type checker)
        return self.answer(_facts(waiting.wait_in_turn(run_id, self.query.wait, self.scope)))


class RunCancel(ResourceView):
    @writes("cancel_workflow_run", "workflows:write", None, RunFacts, "End a run after its present step, and undo it")
    def post(self, request: Request, run_id: str) -> Response:
        return self.answer(_facts(workflows.cancel(workflows.find(run_id, self.scope), _granter(self))))


class RunRetry(ResourceView):
    @writes("retry_workflow_run", "workflows:write", RetryBody, RunFacts, "Try a run again that was not successful")
    def post(self, request: Request, run_id: str) -> Response:
        confirm = self.given.get("confirm", False)
        run = workflows.find(run_id, self.scope)
        return self.answer(_facts(workflows.retry(run, _granter(self), confirm=confirm)))


class RunTake(ResourceView):
    @writes(
        "take_from_workflow_run",
        "workflows:write",
        None,
        TakenOver,
        "Take what a run hands over, once; it is for whoever started the run",
    )
    def post(self, request: Request, run_id: str) -> Response:
        taken = workflows.take_over(workflows.find(run_id, self.scope))
        return self.answer(TakenOver(secrets=taken).model_dump(by_alias=True), headers={"Cache-Control": "no-store"})


def _granter(view: ResourceView) -> Granter:
    return granter_of(view.asker, view.scope)


def _workflow(one: Workflow) -> dict[str, Any]:
    facts = WorkflowFacts(
        name=one.name,
        description=one.description,
        input_schema=one.input.model_json_schema(),
        is_scheduled=one.schedule is not None,
        schedule=one.shown_schedule,
        needs=one.needs,
    )
    return facts.model_dump(mode="json", by_alias=True)


def _facts(run: WorkflowRun) -> dict[str, Any]:
    steps = list(run.steps.all())
    facts = {"input": shown_input(run), "result": shown_result(run), "steps": shown_steps(steps)}
    facts["current_step"] = shown_current_step(run, steps)
    return _shown(RunFacts, run, **facts)


def _shown(model: type[RunItem], run: WorkflowRun, **more: Any) -> dict[str, Any]:
    facts = model(
        id=run.pk,
        workflow=run.workflow,
        status=workflows.status_of(run),
        sales_channel_id=run.tenant_id,
        error_code=run.error_code,
        error_message=run.error_message,
        retry_of=run.retry_of_id,
        hands_over=run.hands_over,
        started_by=run.started_by,
        request_id=run.request_id,
        created_at=run.created_at,
        cancel_requested_at=run.cancel_requested_at,
        next_attempt_at=run.due_at if run.fence == run.handed_back else None,
        finished_at=run.finished_at,
        **more,
    )
    return facts.model_dump(mode="json", by_alias=True)


routes = [
    path("workflows", WorkflowList.as_view()),
    path("workflows/runs", RunList.as_view()),
    path("workflows/runs/<str:run_id>", RunPage.as_view()),
    path("workflows/runs/<str:run_id>/cancel", RunCancel.as_view()),
    path("workflows/runs/<str:run_id>/retry", RunRetry.as_view()),
    path("workflows/runs/<str:run_id>/take", RunTake.as_view()),
]
