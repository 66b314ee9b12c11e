"""Runs over REST, in the admin and from a shell."""

from __future__ import annotations

import html
import json
import re
import threading
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from celery.schedules import crontab
from django.contrib.admin.utils import unquote
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import RunState, WorkflowRun
from connections.workflows import cancel, start, step, waiting, workflow
from connections.workflows.showing import REDACTED
from external_apis.errors import ConnectFailed, NotFound
from external_apis.models import ApiKey
from external_apis.tenancy import Scope
from tests.envelope import EXTERNAL
from tests.exsvc import bearer
from tests.factories import make_key, make_tenant, make_user
from tests.rest import RestClient, with_key
from tests.workflow_runs import SMS, finish, make_failed_run, make_run, stored, sweep_and_leave, work

pytestmark = pytest.mark.django_db

RUNS = f"{EXTERNAL}/workflows/runs"
KEY = {"title": "Key of a run", "type": "secret", "scopes": ["providers:read"]}


def posted(client: RestClient, path: str, body: Any = None) -> tuple[int, Any]:
    response = client.send("post", path, body)
    return response.status_code, response.json().get("data") or response.json()["error"]


# --- REST -------------------------------------------------------------------------------------------------------------


def test_the_workflows_are_listed_with_their_inputs() -> None:
    body = with_key().get(f"{EXTERNAL}/workflows?perPage=2").json()
    assert (body["pagination"]["total"] >= 6, len(body["data"])) == (True, 2)
    listed = {one["name"]: one for one in with_key().get(f"{EXTERNAL}/workflows").json()["data"]}
    assert {"publish-to-facebook", "process-stripe-payment", "send-sms", "send-email", "post-to-slack"} <= set(listed)
    assert set(listed["publish-to-facebook"]["inputSchema"]["properties"]) == {"connection_id", "image_url", "caption"}
    assert listed["send-sms"]["inputSchema"]["required"] == ["twilio_connection_id", "to_number", "message"]
    assert listed["send-sms"]["description"] == "Send a text message by Twilio."


def test_a_run_over_rest_from_start_to_end() -> None:
    client = with_key()
    status, run = posted(client, f"{EXTERNAL}/workflows", {"name": "send-sms", "input": SMS, "idempotencyKey": "k1"})
    assert (status, run["status"], run["startedBy"]) == (201, "pending", "key:ADMIN_API_KEY")
    assert run["input"] == {"twilio_connection_id": "twilio/default", "to_number": REDACTED, "message": REDACTED}
    assert (
        posted(client, f"{EXTERNAL}/workflows", {"name": "send-sms", "input": SMS, "idempotencyKey": "k1"})[1]["id"]
        == run["id"]
    )
    work()
    shown = client.get(f"{RUNS}/{run['id']}").json()["data"]
    assert (shown["status"], shown["errorCode"]) == ("reverted", "NOT_FOUND")
    assert [(one["position"], one["name"], one["state"]) for one in shown["steps"]] == [
        (1, "send-twilio-message", "failed")
    ]
    status, again = posted(client, f"{RUNS}/{run['id']}/retry")
    assert (status, again["retryOf"]) == (200, run["id"])
    assert posted(client, f"{RUNS}/{again['id']}/cancel")[1]["cancelRequestedAt"]
    work()
    assert posted(client, f"{RUNS}/{again['id']}/cancel") == (
        409,
        {"code": "CONFLICT", "message": "The run is cancelled: there is nothing to cancel.", "details": {}},
    )
    listed = client.get(f"{RUNS}?status=cancelled").json()["data"]
    assert [one["id"] for one in listed] == [again["id"]]
    assert SMS["message"] not in json.dumps([run, shown, again, listed])


def test_a_key_of_a_run_is_taken_once_over_rest() -> None:
    key = make_key(scopes=["workflows:write", "workflows:read", "keys:write", "providers:read"])
    client = bearer(key.token)
    _, run = posted(client, f"{EXTERNAL}/workflows", {"name": "create-api-key", "input": KEY})
    assert posted(client, f"{RUNS}/{run['id']}/take")[0] == 409
    work()
    assert client.get(f"{RUNS}/{run['id']}").json()["data"]["handsOver"]
    assert posted(with_key(), f"{RUNS}/{run['id']}/take")[0] == 403
    response = client.send("post", f"{RUNS}/{run['id']}/take")
    assert response["Cache-Control"] == "no-store"
    token = response.json()["data"]["secrets"]["token"]
    assert bearer(token).get(f"{EXTERNAL}/providers").status_code == 200
    status, error = posted(client, f"{RUNS}/{run['id']}/take")
    assert (status, error["code"]) == (409, "NOTHING_TO_TAKE")
    assert token not in client.get(f"{RUNS}/{run['id']}").content.decode()


def test_what_may_have_happened_is_done_again_over_rest_if_that_is_said() -> None:
    client, run = with_key(), make_failed_run()
    for body in (None, {}, {"confirm": False}):
        status, error = posted(client, f"{RUNS}/{run.pk}/retry", body)
        assert (status, error["code"]) == (409, "WORKFLOW_NOT_UNDONE")
        assert "send-twilio-message" in error["message"]
    for odd in ({"confirm": "yes"}, {"confirm": 1}, {"sure": True}):
        assert posted(client, f"{RUNS}/{run.pk}/retry", odd)[0] == 400
    status, again = posted(client, f"{RUNS}/{run.pk}/retry", {"confirm": True})
    assert (status, again["retryOf"]) == (200, run.pk)


def test_whoever_may_not_call_has_nothing_undone_by_calls() -> None:
    weak = bearer(make_key(scopes=["workflows:write", "workflows:read"]).token)
    run, failed = make_run(), make_failed_run(undo="failed")
    for path in (f"{run.pk}/cancel", f"{failed.pk}/retry"):
        status, error = posted(weak, f"{RUNS}/{path}")
        assert (status, error["details"]) == (403, {"scope": "proxy"})
    strong = bearer(make_key(scopes=["workflows:write", "workflows:read", "proxy"]).token)
    assert posted(strong, f"{RUNS}/{run.pk}/cancel")[0] == 200
    assert posted(strong, f"{RUNS}/{failed.pk}/retry")[0] == 200
    assert stored(failed).state == RunState.REVERTING


@pytest.mark.django_db(transaction=True)
def test_the_end_of_a_run_is_waited_for_over_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    client, run = with_key(), make_run()
    shown = client.get(f"{RUNS}/{run.pk}?wait=0").json()["data"]
    assert (shown["status"], shown["currentStep"]) == ("pending", None)
    held: list[bool] = []
    pause = time.sleep

    def look_and_sleep(seconds: float) -> None:
        held.append(connection.connection is not None)
        pause(seconds)

    with monkeypatch.context() as patch:
        patch.setattr("connections.workflows.runs.time.sleep", look_and_sleep)
        worker = threading.Timer(0.2, sweep_and_leave)
        worker.start()
        assert client.get(f"{RUNS}/{run.pk}?wait=25").json()["data"]["status"] == "reverted"
        worker.join()
    assert held
    assert not any(held), "no connection to the database is held meanwhile"
    for odd in ("26", "-1", "1.5", "soon"):
        assert client.get(f"{RUNS}/{run.pk}?wait={odd}").status_code == 400
    assert client.get(f"{RUNS}/run_missing?wait=1").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_whoever_comes_while_many_wait_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_places", threading.BoundedSemaphore(1))
    run = make_run()
    assert waiting._places.acquire(blocking=False)
    began = time.monotonic()
    assert with_key().get(f"{RUNS}/{run.pk}?wait=20").json()["data"]["status"] == "pending"
    assert time.monotonic() - began < 5
    waiting._places.release()
    with pytest.raises(NotFound):
        waiting.wait_in_turn("run_missing", 5, Scope())
    assert waiting._places.acquire(blocking=False), "whoever has waited leaves the place"


def test_the_step_that_fails_is_shown_while_it_does() -> None:
    """Its attempts and its last error, and of a compensation too."""
    problems: list[Exception] = [ConnectFailed("Away.")]

    def stumble(context: Any, given: Any = None, result: Any = None) -> None:
        if problems:
            raise problems.pop()

    one = step(name="one", compensate=stumble)(lambda context: None)
    two = step(name="two")(stumble)
    workflow("order")(lambda context, given: [one(context), two(context)])
    run = start("order")
    work()
    shown = with_key().get(f"{RUNS}/{run.pk}").json()["data"]
    now = shown["currentStep"]
    assert [row["name"] for row in shown["steps"]] == ["one"]
    assert (now["position"], now["name"], now["tries"], now["isBeingUndone"]) == (2, "two", 1, False)
    assert (now["errorCode"], now["errorMessage"]) == ("CONNECT_FAILED", "Away.")
    assert now["startedAt"] < now["nextAttemptAt"] == shown["nextAttemptAt"]
    page = signed_in().get(admin_page(run))
    assert "2. two" in page.content.decode()
    assert "Away." in page.content.decode()
    assert page["Refresh"] == "5"
    cancel(stored(run))
    problems.append(ConnectFailed("Still away."))
    work()
    shown = with_key().get(f"{RUNS}/{run.pk}").json()["data"]
    now = shown["currentStep"]
    assert (now["position"], now["name"], now["tries"], now["isBeingUndone"]) == (1, "one", 1, True)
    assert "Still away." in now["errorMessage"]
    assert "one, being undone" in signed_in().get(admin_page(run)).content.decode()
    finish(run)
    shown = with_key().get(f"{RUNS}/{run.pk}").json()["data"]
    assert (shown["currentStep"], shown["steps"][0]["undo"], shown["steps"][0]["undoError"]) == (None, "done", "")
    assert "Refresh" not in signed_in().get(admin_page(run))


def test_a_run_without_steps_says_so() -> None:
    workflow("nothing")(lambda context, given: None)
    text = signed_in().get(admin_page(finish(start("nothing")))).content.decode()
    assert "It had none." in text
    assert "None has ended yet." not in text


def test_schedules_are_told() -> None:
    workflow("nightly", schedule=crontab(minute="0", hour="3"))(lambda context, given: None)
    workflow("hourly", schedule=timedelta(hours=1))(lambda context, given: None)
    listed = {one["name"]: one for one in with_key().get(f"{EXTERNAL}/workflows?perPage=100").json()["data"]}
    assert (listed["nightly"]["schedule"], listed["hourly"]["schedule"]) == ("0 3 * * *", "every 3600 s")
    assert (listed["send-sms"]["schedule"], listed["send-sms"]["isScheduled"]) == (None, False)
    assert [listed[name]["needs"] for name in ("send-sms", "create-api-key", "nightly")] == ["proxy", "keys:write", ""]
    assert "0 3 * * *" in signed_in().get("/admin/connections/workflowrun/add/").content.decode()


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({}, 400, "name"),
        ({"name": "nothing"}, 404, None),
        ({"name": "send-sms", "input": {}}, 400, "input.twilio_connection_id"),
        ({"name": "send-sms", "input": {**SMS, "to_number": "110"}}, 400, "input.to_number"),
        ({"name": "send-sms", "input": []}, 400, "input"),
        ({"name": "send-sms", "input": SMS, "idempotencyKey": "k" * 300}, 400, "idempotencyKey"),
        ({"name": "create-api-key", "input": {**KEY, "scopes": ["nothing"]}}, 400, "input.scopes"),
    ],
)
def test_bad_requests(body: Any, status: int, path: str | None) -> None:
    answered, error = posted(with_key(), f"{EXTERNAL}/workflows", body)
    assert answered == status
    assert path is None or path in [item["path"] for item in error["details"]["errors"]]
    assert not WorkflowRun.objects.exists()


def test_a_key_with_less_starts_no_key_with_more() -> None:
    client = bearer(make_key(scopes=["workflows:write", "providers:read"]).token)
    assert posted(client, f"{EXTERNAL}/workflows", {"name": "create-api-key", "input": KEY})[0] == 403
    client = bearer(make_key(scopes=["workflows:write", "keys:write"]).token)
    assert posted(client, f"{EXTERNAL}/workflows", {"name": "create-api-key", "input": KEY})[0] == 403
    assert (
        bearer(make_key(scopes=["workflows:read"]).token)
        .send("post", f"{EXTERNAL}/workflows", {"name": "send-sms", "input": SMS})
        .status_code
        == 403
    )


@pytest.mark.parametrize("path", [RUNS, f"{RUNS}?status=waiting"])
def test_lists_cost_the_same_however_many_there_are(path: str) -> None:
    client, counts = with_key(), []
    for _ in range(2):
        for _ in range(5):
            make_run(fence=1, handed_back=1)
        client.get(path)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 2


# --- the admin --------------------------------------------------------------------------------------------------------


def signed_in(**fields: Any) -> Client:
    client = Client()
    client.force_login(make_user(**{"is_superuser": True, **fields}))
    return client


def admin_page(run: WorkflowRun, name: str = "change") -> str:
    return f"/admin/connections/workflowrun/{run.pk}/{name}/"


def test_a_run_is_started_and_looked_at_in_the_admin() -> None:
    client = signed_in()
    start_page = client.get("/admin/connections/workflowrun/add/")
    assert "process-stripe-payment" in start_page.content.decode()
    refused = client.post("/admin/connections/workflowrun/add/", {"name": "send-sms", "input": "{}"})
    assert "twilio_connection_id" in refused.content.decode()
    client.post("/admin/connections/workflowrun/add/", {"name": "send-sms", "input": json.dumps(SMS)})
    run = WorkflowRun.objects.get()
    finish(run)
    text = client.get(admin_page(run)).content.decode()
    for part in ("send-twilio-message", "NOT_FOUND", "reverted", "Retry", "twilio/default"):
        assert part in text
    assert SMS["to_number"] not in text
    assert SMS["message"] not in text
    assert "_addanother" not in text
    assert run.pk in client.get("/admin/connections/workflowrun/?status=reverted").content.decode()
    assert client.post(admin_page(run, "retry")).status_code == 302
    assert WorkflowRun.objects.filter(retry_of=run).exists()


def test_what_is_handed_over_is_shown_once_in_the_admin() -> None:
    client = signed_in()
    client.post("/admin/connections/workflowrun/add/", {"name": "create-api-key", "input": json.dumps(KEY)})
    run = finish(WorkflowRun.objects.get())
    text = html.unescape(client.get(admin_page(run)).content.decode())
    assert "Show once" in text
    assert re.search(r'<div[^>]*>{"id": "', text)  # the step's result is JSON too
    assert "Show once" not in signed_in().get(admin_page(run)).content.decode()
    shown = re.search("sk_live_[A-Za-z0-9]+", client.post(admin_page(run, "take")).content.decode())
    assert shown
    token = shown[0]
    assert bearer(token).get(f"{EXTERNAL}/providers").status_code == 200
    assert "somebody has taken it" in client.post(admin_page(run, "take"), follow=True).content.decode()


def test_what_may_have_happened_is_done_again_in_the_admin_if_asked_twice() -> None:
    client, run = signed_in(), make_failed_run()
    assert "may have had an effect" in client.get(admin_page(run)).content.decode()
    assert "Nothing undoes it" in client.get(admin_page(run)).content.decode()
    question = client.post(admin_page(run, "retry"))
    assert "send-twilio-message was done, or may have been" in question.content.decode()
    assert not WorkflowRun.objects.filter(retry_of=run).exists()
    assert 'name="confirm" value="1"' in question.content.decode()
    again = client.post(admin_page(run, "retry"), {"confirm": "1"})
    assert unquote(again["Location"]) == admin_page(WorkflowRun.objects.get(retry_of=run))


def test_who_is_no_superuser_has_no_provider_called_in_the_admin() -> None:
    act = ("connections.view_workflowrun", "connections.change_workflowrun")
    client, run = signed_in(is_superuser=False, permissions=act), make_run()
    text = client.post(admin_page(run, "cancel"), follow=True).content.decode()
    assert "This needs the scope proxy." in text
    assert stored(run).cancel_requested_at is None


def test_the_admin_shows_a_tenants_runs_to_its_people_alone() -> None:
    mine, theirs = make_tenant(), make_tenant()
    runs = make_run(mine), make_run(theirs), make_run()
    see, act = "connections.view_workflowrun", "connections.change_workflowrun"
    client = signed_in(is_superuser=False, tenant=mine, permissions=(see, act))
    listed = client.get("/admin/connections/workflowrun/").content.decode()
    assert [run.pk in listed for run in runs] == [True, False, False]
    assert client.get(admin_page(runs[0])).status_code == 200
    for foreign in runs[1:]:
        assert client.post(admin_page(foreign, "cancel")).status_code == 404
    reader = signed_in(is_superuser=False, tenant=mine, permissions=(see,))
    assert "/cancel/" in client.get(admin_page(runs[0])).content.decode()
    assert "/cancel/" not in reader.get(admin_page(runs[0])).content.decode()
    assert reader.post(admin_page(runs[0], "cancel")).status_code == 404
    assert reader.get("/admin/connections/workflowrun/add/").status_code == 404
    assert client.get(admin_page(runs[0], "cancel")).status_code == 405
    assert stored(runs[0]).cancel_requested_at is None


# --- the shell --------------------------------------------------------------------------------------------------------


def typed(*arguments: str) -> str:
    out = StringIO()
    call_command("run_workflow", *arguments, stdout=out)
    return out.getvalue().strip()


def test_a_run_is_started_from_a_shell(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text(json.dumps(SMS))
    tenant = make_tenant()
    run = stored(WorkflowRun(pk=typed("send-sms", "--input", f"@{tmp_path}/input.json", "--tenant", tenant.slug)))
    assert (run.tenant_id, run.started_by) == (tenant.pk, "command:run_workflow")
    assert typed("send-sms", "--input", json.dumps(SMS), "--idempotency-key", "k") == typed(
        "send-sms", "--input", json.dumps(SMS), "--idempotency-key", "k"
    )


@pytest.mark.django_db(transaction=True)
def test_a_shell_waits_for_the_result() -> None:
    worker = threading.Timer(0.3, sweep_and_leave)
    worker.start()
    told = json.loads(typed("create-api-key", "--input", json.dumps(KEY), "--wait", "--timeout", "10"))
    worker.join()
    assert told["result"]["api_key"]["id"] == ApiKey.objects.get().pk
    assert told["handed_over"]["token"].startswith("sk_live_")


def test_a_shell_tells_the_result_as_often_as_it_is_asked() -> None:
    """Of one that hands nothing over, or did so before."""
    workflow("plain")(lambda context, given: "done")
    finish(start("plain", idempotency_key="k"))
    for _ in range(2):
        assert json.loads(typed("plain", "--idempotency-key", "k", "--wait"))["result"] == "done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "There is no workflow 'nothing'"),
        (["send-sms", "--input", "{"], "--input: it is not JSON"),
        (["send-sms", "--input", "[]"], "not a JSON object"),
        (["send-sms", "--input", "@/nowhere"], "No such file"),
        (["send-sms", "--input", "{}"], "twilio_connection_id"),
        (["send-sms", "--input", json.dumps(SMS), "--tenant", "nobody"], "Tenant 'nobody' not found"),
        (["send-sms", "--input", json.dumps(SMS), "--wait", "--timeout", "0"], "does a worker run"),
    ],
)
def test_what_is_wrong_is_told_in_a_shell(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        typed(*arguments)


def test_a_run_that_failed_fails_the_command() -> None:
    run = make_run(
        state=RunState.REVERTED, due_at=None, finished_at=timezone.now(), idempotency_key="k", error_message="It broke."
    )
    with pytest.raises(CommandError, match=f"{run.pk} is reverted: It broke"):
        typed("send-sms", "--input", json.dumps(SMS), "--idempotency-key", "k", "--wait")
