"""The recipes against the sandbox, which speaks as the vendors do."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import signal
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

import connections
from connections import lookup, services, workflows
from connections.client import ApiClient
from connections.models import ExternalApiConnection, RunState, WorkflowRun
from connections.recipes import inputs
from connections.recipes.process_stripe_payment import (
    PaymentInput,
    create_customer,
    create_intent,
    process_stripe_payment,
)
from connections.recipes.publish_to_facebook import publish_photo
from connections.sandbox import credentials
from connections.seeding import seed_sandbox
from connections.workflows import Context, running, start, step, workflow
from connections.workflows.journal import Journal
from external_apis import key_use, keys, request_context
from external_apis.errors import CallTimeout, Forbidden, InvalidInput, NotFound, StepFailed, UpstreamClientError
from external_apis.key_granting import Granter
from external_apis.models import ApiKey, AuditEvent
from external_apis.tenancy import Scope
from tests.envelope import EXTERNAL
from tests.factories import make_connection, make_provider, make_tenant, make_user
from tests.processes import die, dying, in_child
from tests.rest import with_key
from tests.sandbox import Sandbox
from tests.workflow_runs import SMS, finish, stored, work

pytestmark = pytest.mark.django_db

ACCOUNT = "AC" + "0" * 32
STRIPE = {
    "request_encoding": "form",
    "api_version": "2024-01-01",
    "api_version_header": "Stripe-Version",
    "retry_config": {"max_retries": 0},
}


class Vendor:
    """One connection to a dialect of the sandbox; ``key`` tells its requests from others'."""

    def __init__(self, sandbox: Sandbox, path: str, config: dict[str, Any], **data: Any) -> None:
        self.sandbox, self.key = sandbox, uuid.uuid4().hex
        config = {
            "base_url": f"{sandbox.url}/auth/bearer{path}",
            "default_headers": {"X-Sandbox-Key": self.key},
            **config,
        }
        self.row: ExternalApiConnection = make_connection(
            make_provider(environment="development", api_config=config),
            credentials={"access_token": credentials.BEARER_TOKEN},
            provider_data=data,
        )

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Method and path of what came, and under which idempotency key if there was one."""
        return [
            (request["method"], request["target"].partition("/v")[2].partition("/")[2].partition("?")[0])
            for request in self.sandbox.requests(self.key)
        ]

    def client(self) -> Any:
        return Context.of(WorkflowRun(id="run_test")).get_api_client(self.row.pk)


@pytest.fixture(autouse=True)
def _allow_sandbox(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]


@pytest.fixture
def stripe(sandbox: Sandbox) -> Vendor:
    return Vendor(sandbox, "/stripe/v1", STRIPE)


@pytest.fixture
def facebook(sandbox: Sandbox) -> Vendor:
    return Vendor(sandbox, "/facebook/v18.0", {"request_encoding": "form"}, page_id="546349135390552")


def run(name: str, given: dict[str, Any]) -> WorkflowRun:
    return finish(start(name, given))


# --- what the first start puts in ----------------------------------------------------------------------------------


@pytest.fixture
def seeded(sandbox: Sandbox) -> None:
    seed_sandbox(sandbox.url)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        (
            "publish-to-facebook",
            {"connection_id": "sandbox-facebook/default", "image_url": "https://img.example.com/a"},
        ),
        (
            "process-stripe-payment",
            {"stripe_connection_id": "sandbox-stripe", "amount": 5, "currency": "eur", "customer_id": "cus_7"},
        ),
        ("send-sms", {**SMS, "twilio_connection_id": "conn_sandbox_twilio"}),
        (
            "send-email",
            {"sendgrid_connection_id": "sandbox-sendgrid", "to_email": "a@b", "subject": "s", "html_content": "h"},
        ),
        ("post-to-slack", {"slack_connection_id": "sandbox-slack", "channel": "#general", "message": "Hi"}),
    ],
)
def test_every_recipe_has_an_account_of_the_sandbox(seeded: None, name: str, given: dict[str, Any]) -> None:
    reference = next(value for key, value in given.items() if key.endswith("connection_id"))
    row = lookup.find_in_scope(reference, Scope())
    assert services.test_connection(row).is_ok
    done = run(name, given)
    assert done.state == RunState.SUCCEEDED, done.error_message


def test_the_readmes_command_works_as_it_stands(seeded: None) -> None:
    text = (Path(connections.__file__).parents[1] / "README.md").read_text()
    (command,) = re.findall(r"manage\.py (run_workflow (?:.|\\\n)*?)\n```", text)
    words = shlex.split(command.replace("\\\n", ""))
    words.remove("--wait")  # for a worker
    call_command(*words, stdout=io.StringIO())
    assert finish(WorkflowRun.objects.get()).state == RunState.SUCCEEDED


# --- Stripe -----------------------------------------------------------------------------------------------------------


def test_a_payment_of_a_new_customer(stripe: Vendor) -> None:
    given = {"stripe_connection_id": stripe.row.pk, "amount": 1999, "currency": "eur", "payment_method": "pm_card_visa"}
    made = run("process-stripe-payment", given)
    result = workflows.result_of(made)
    assert (result["status"], result["customer_id"][:4], result["payment_intent_id"][:3]) == (
        "succeeded",
        "cus_",
        "pi_",
    )
    intent = stripe.client().get(f"/payment_intents/{result['payment_intent_id']}").json()
    assert (intent["amount"], intent["currency"], intent["customer"]) == (1999, "eur", result["customer_id"])
    assert stripe.calls[:3] == [
        ("POST", "customers"),
        ("POST", "payment_intents"),
        ("POST", f"payment_intents/{result['payment_intent_id']}/confirm"),
    ]


def test_a_payment_of_a_customer_that_there_is(stripe: Vendor) -> None:
    given = {"stripe_connection_id": stripe.row.pk, "amount": 5, "currency": "eur", "customer_id": "cus_7"}
    made = run("process-stripe-payment", given | {"payment_method": "pm_card_visa"})
    assert workflows.result_of(made)["customer_id"] == "cus_7"
    assert ("POST", "customers") not in stripe.calls


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("pm_card_chargeDeclined", "UPSTREAM_CLIENT_ERROR"),
        ("pm_card_authenticationRequired", "STEP_FAILED"),
    ],
)
def test_a_payment_that_fails_is_cancelled(stripe: Vendor, method: str, code: str) -> None:
    given = {"stripe_connection_id": stripe.row.pk, "amount": 1999, "currency": "eur", "payment_method": method}
    failed = run("process-stripe-payment", given)
    assert (failed.state, failed.error_code) == (RunState.REVERTED, code)
    steps = {row.name: json.loads(row.contents["result"]) for row in failed.steps.filter(state="done")}
    intent = steps["create-stripe-payment-intent"]["payment_intent_id"]
    customer = steps["create-stripe-customer"]["customer_id"]
    assert stripe.client().get(f"/payment_intents/{intent}").json()["status"] == "canceled"
    assert stripe.client().get(f"/customers/{customer}").json()["deleted"] is True


def undone_after_its_charge(stripe: Vendor, undo_first: Callable[[str], None] = lambda intent: None) -> WorkflowRun:
    """A payment that has gone through, and that something after it undoes."""

    @step(name="follow", retries=0)
    def follow(context: Context, *, intent: str) -> None:
        undo_first(intent)
        raise StepFailed("No.")

    @workflow("pay-and-follow")
    def pay_and_follow(context: Context, _: Any) -> None:
        money = {"stripe_connection_id": stripe.row.pk, "amount": 1999, "currency": "eur"}
        paid = process_stripe_payment.body(context, PaymentInput(**money, payment_method="pm_card_visa"))
        follow(context, intent=paid["payment_intent_id"])

    return run("pay-and-follow", {})


def refunds_of(stripe: Vendor, failed: WorkflowRun) -> tuple[list[tuple[int, str]], bool]:
    """Amounts and states of what was given back, and whether the customer is still there."""
    results = {row.name: json.loads(row.contents["result"]) for row in failed.steps.filter(state="done")}
    intent = results["create-stripe-payment-intent"]["payment_intent_id"]
    found = stripe.client().get("/refunds", params={"payment_intent": intent}).json()["data"]
    customer = stripe.client().get(f"/customers/{results['create-stripe-customer']['customer_id']}").json()
    return [(one["amount"], one["status"]) for one in found], not customer.get("deleted")


def test_what_was_paid_is_given_back(stripe: Vendor) -> None:
    failed = undone_after_its_charge(stripe)
    assert failed.state == RunState.REVERTED
    assert refunds_of(stripe, failed) == ([(1999, "succeeded")], False)


def test_what_somebody_has_given_back_is_not_given_back_twice(stripe: Vendor) -> None:
    failed = undone_after_its_charge(
        stripe, lambda intent: stripe.client().post("/refunds", {"payment_intent": intent}) and None
    )
    assert failed.state == RunState.REVERTED
    assert refunds_of(stripe, failed) == ([(1999, "succeeded")], False)


def test_a_customer_whose_money_is_kept_is_kept_too(stripe: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refund is refused: the run says that something is left behind, and of whom.

    Stripe keeps what it has answered to an idempotency key, refusals too: another attempt needs another.
    """
    post = ApiClient.post

    def refuse(self: ApiClient, target: str, body: Any, **options: Any) -> Any:
        return post(self, target, {"payment_intent": "pi_none"} if target == "/refunds" else body, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ApiClient, "post", refuse)
        failed = undone_after_its_charge(stripe)
    assert failed.state == RunState.FAILED
    assert {row.name for row in failed.steps.filter(undo="failed")} == {
        "confirm-stripe-payment-intent", "create-stripe-payment-intent", "create-stripe-customer"
    }  # fmt: skip
    assert refunds_of(stripe, failed) == ([], True)
    workflows.retry(stored(failed))
    failed = finish(failed)
    assert failed.state == RunState.REVERTED
    assert refunds_of(stripe, failed) == ([(1999, "succeeded")], False)


def test_a_charge_without_an_answer_is_given_back(stripe: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    post = ApiClient.post

    def lose(self: ApiClient, target: str, *args: Any, **options: Any) -> Any:
        answer = post(self, target, *args, **options)
        if target.endswith("/confirm"):
            raise CallTimeout("Its answer is lost.", may_have_happened=True)
        return answer

    monkeypatch.setattr(ApiClient, "post", lose)
    failed = undone_after_its_charge(stripe)
    assert (failed.state, failed.error_code) == (RunState.REVERTED, CallTimeout.code)
    assert refunds_of(stripe, failed) == ([(1999, "succeeded")], False)


def test_a_new_customer_has_nothing_to_pay_with(stripe: Vendor) -> None:
    with pytest.raises(InvalidInput, match="payment_method"):
        start("process-stripe-payment", {"stripe_connection_id": stripe.row.pk, "amount": 5, "currency": "eur"})


def test_the_customers_default_method_is_taken(stripe: Vendor) -> None:
    """The seed's own inputs; of somebody who has no such method nothing is charged."""
    given = {"stripe_connection_id": stripe.row.pk, "amount": 5, "currency": "eur"}
    result = workflows.result_of(run("process-stripe-payment", given | {"customer_id": "cus_7"}))
    intent = stripe.client().get(f"/payment_intents/{result['payment_intent_id']}").json()
    assert (result["status"], intent["payment_method"]) == ("succeeded", "pm_card_visa")
    bare = stripe.client().post("/customers", {}).json()["id"]
    failed = run("process-stripe-payment", given | {"customer_id": bare})
    assert (failed.state, failed.error_message) == (
        RunState.REVERTED,
        "The customer has no default payment method.",
    )
    assert len([path for method, path in stripe.calls if (method, path) == ("POST", "payment_intents")]) == 1


@pytest.mark.parametrize("path", ["customers", "payment_intents"])
def test_what_was_made_without_an_answer_is_undone(stripe: Vendor, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer to its creation is lost: asked under the same key once more, Stripe tells what it has made."""
    post = ApiClient.post
    lost = 4  # the first attempt and three more

    def lose(self: ApiClient, target: str, *args: Any, **options: Any) -> Any:
        nonlocal lost
        answer = post(self, target, *args, **options)
        if target == f"/{path}" and lost:
            lost -= 1
            raise CallTimeout("Its answer is lost.", may_have_happened=True)
        return answer

    monkeypatch.setattr(ApiClient, "post", lose)
    given = {"stripe_connection_id": stripe.row.pk, "amount": 5, "currency": "eur", "payment_method": "pm_card_visa"}
    failed = run("process-stripe-payment", given)
    assert (failed.state, failed.error_code, lost) == (RunState.REVERTED, CallTimeout.code, 0)
    query = f"metadata['workflow_run']:'{failed.pk}'"
    made = stripe.client().get("/customers/search", params={"query": query}).json()["data"]
    assert made == []
    sent = [json.loads(row.contents["input"]) for row in failed.steps.filter(name="create-stripe-payment-intent")]
    intents = [
        one
        for given in sent
        for one in stripe.client().get("/payment_intents", params={"customer": given["customer"]}).json()["data"]
    ]
    assert [one["status"] for one in intents] == (["canceled"] if path == "payment_intents" else [])


def test_what_a_customer_pays_with(stripe: Vendor) -> None:
    from connections.recipes.process_stripe_payment import _default_method

    assert _default_method({"invoice_settings": {"default_payment_method": "pm_1"}}) == "pm_1"
    oddities: list[Any] = [{}, [], None, {"invoice_settings": {"default_payment_method": {}}}]
    assert [_default_method(odd) for odd in oddities] == [None] * 4


def test_a_step_that_is_repeated_charges_once(stripe: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker is lost after each answer: Stripe sees the same idempotency key, and makes nothing twice."""
    from connections.workflows import journal

    store, lost = journal.Journal.store_step, set()

    def lose(self: Any, attempt: Any, *args: Any) -> bool:
        if attempt.position not in lost:
            lost.add(attempt.position)
            raise journal.Overtaken
        return store(self, attempt, *args)

    monkeypatch.setattr(journal.Journal, "store_step", lose)
    given = {"stripe_connection_id": stripe.row.pk, "amount": 1999, "currency": "eur", "payment_method": "pm_card_visa"}
    made = run("process-stripe-payment", given)
    assert (made.state, lost) == (RunState.SUCCEEDED, {1, 2, 3})
    posted = [request for request in stripe.sandbox.requests(stripe.key) if request["method"] == "POST"]
    sent = [{name.lower(): value for name, value in request["headers"].items()} for request in posted]
    assert [headers["idempotency-key"] for headers in sent] == [f"{made.pk}-{step}" for step in (1, 1, 2, 2, 3, 3)]
    intent = stripe.client().get(f"/payment_intents/{workflows.result_of(made)['payment_intent_id']}").json()
    customer = workflows.result_of(made)["customer_id"]
    assert (intent["customer"], intent["status"]) == (customer, "succeeded")
    intents = stripe.client().get("/payment_intents", params={"customer": customer}).json()["data"]
    query = f"metadata['workflow_run']:'{made.pk}'"
    customers = stripe.client().get("/customers/search", params={"query": query}).json()["data"]
    assert ([one["id"] for one in intents], [one["id"] for one in customers]) == ([intent["id"]], [customer])


def test_the_sandbox_shows_what_is_done_twice(stripe: Vendor, sandbox: Sandbox) -> None:
    """Without a key, or with another one, the same request makes another object; with one key at once only one."""
    mark = uuid.uuid4().hex
    body = {"metadata": {"mark": mark}}

    def count() -> int:
        query = f"metadata['mark']:'{mark}'"
        return len(stripe.client().get("/customers/search", params={"query": query}).json()["data"])

    for _ in range(2):
        stripe.client().post("/customers", body)
    assert count() == 2
    barrier = threading.Barrier(4)
    url, headers = f"{sandbox.url}/auth/bearer/stripe/v1/customers", {
        "Authorization": f"Bearer {credentials.BEARER_TOKEN}", "Stripe-Version": "2024-01-01", "Idempotency-Key": mark,
    }  # fmt: skip

    def create(_: int) -> str:
        barrier.wait(10)
        answer = requests.post(url, {"metadata[mark]": mark}, headers=headers, timeout=10)
        return str(answer.json()["id"])

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(create, range(4)))) == 1
    assert count() == 3


@pytest.mark.parametrize(
    "wrong",
    [{"amount": 0}, {"amount": 19.99}, {"amount": "5"}, {"currency": "EURO"}, {"customer_id": "../x"}, {"extra": 1}],
)
def test_a_bad_payment_is_refused_at_once(stripe: Vendor, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        start(
            "process-stripe-payment",
            {"stripe_connection_id": "c", "amount": 1, "currency": "eur", "customer_id": "c", **wrong},
        )
    assert stripe.calls == []


# --- Facebook ---------------------------------------------------------------------------------------------------------


def test_a_photo_is_published(facebook: Vendor) -> None:
    given = {"connection_id": facebook.row.pk, "image_url": "https://img.example.com/a.jpg", "caption": "Grüße"}
    post = workflows.result_of(run("publish-to-facebook", given))["post_id"]
    assert post.startswith("546349135390552_")
    assert facebook.client().get(f"/{post}").json()["message"] == "Grüße"


def test_a_photo_is_taken_down_when_what_follows_fails(facebook: Vendor) -> None:
    @step(name="follow", retries=0)
    def follow(context: Context) -> None:
        raise StepFailed("No.")

    given = {"connection_id": facebook.row.pk, "image_url": "https://img.example.com/a.jpg", "caption": ""}
    workflow("publish-and-follow")(lambda context, _: [publish_photo(context, **given), follow(context)])
    failed = run("publish-and-follow", {})
    assert failed.state == RunState.REVERTED
    post = json.loads(failed.steps.get(position=1).contents["result"])["post_id"]
    with pytest.raises(UpstreamClientError):
        facebook.client().get(f"/{post}")


def test_what_is_gone_already_is_undone(facebook: Vendor, stripe: Vendor) -> None:
    """As by a compensation whose worker died: it runs again, and finds nothing left to undo."""

    @step(name="undo-first", retries=0)
    def undo_first(context: Context, *, post: str, customer: str, intent: str) -> None:
        facebook.client().delete(f"/{post}")
        stripe.client().delete(f"/customers/{customer}")
        stripe.client().post(f"/payment_intents/{intent}/cancel", {})
        raise StepFailed("No.")

    @workflow("undone-before")
    def undone_before(context: Context, _: Any) -> None:
        photo = {"image_url": "https://img.example.com/a.jpg", "caption": ""}
        post = publish_photo(context, connection_id=facebook.row.pk, **photo)["post_id"]
        customer = create_customer(context, connection_id=stripe.row.pk)["customer_id"]
        money = {"amount": 5, "currency": "eur", "payment_method": "pm_card_visa"}
        made = create_intent(context, connection_id=stripe.row.pk, customer=customer, **money)
        undo_first(context, post=post, customer=customer, intent=made["payment_intent_id"])

    failed = run("undone-before", {})
    undone = {row.name: (row.undo, row.undo_error) for row in failed.steps.filter(state="done")}
    assert (failed.state, set(undone.values())) == (RunState.REVERTED, {("done", "")})


def test_what_cannot_be_deleted_is_not_undone(stripe: Vendor) -> None:
    """Stripe says 400 of an intent that has been paid."""

    @step(name="pay-first", retries=0)
    def pay_first(context: Context, *, intent: str) -> None:
        stripe.client().post(f"/payment_intents/{intent}/confirm", {})
        raise StepFailed("No.")

    @workflow("paid-before")
    def paid_before(context: Context, _: Any) -> None:
        money = {"amount": 5, "currency": "eur", "payment_method": "pm_card_visa"}
        made = create_intent(context, connection_id=stripe.row.pk, customer="cus_7", **money)
        pay_first(context, intent=made["payment_intent_id"])

    assert run("paid-before", {}).state == RunState.FAILED


def test_a_photo_is_not_published_twice(facebook: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is lost after the answer: the run says that somebody has to look, and publishes nothing more."""
    from connections.workflows import journal

    def lose(*args: Any) -> bool:
        raise journal.Overtaken

    monkeypatch.setattr(journal.Journal, "store_step", lose)
    begun = start("publish-to-facebook", {"connection_id": facebook.row.pk, "image_url": "https://img.example.com/a"})
    work()
    monkeypatch.undo()
    failed = finish(begun)
    assert (failed.state, failed.error_code) == (RunState.FAILED, "STEP_IN_DOUBT")
    assert "look at the page" in failed.steps.get().undo_error
    assert len(facebook.calls) == 1


def test_a_connection_without_a_page_publishes_nothing(sandbox: Sandbox) -> None:
    vendor = Vendor(sandbox, "/facebook/v18.0", {})
    failed = run("publish-to-facebook", {"connection_id": vendor.row.pk, "image_url": "https://img.example.com/a"})
    assert (failed.state, failed.error_message) == (
        RunState.REVERTED,
        "The connection's provider_data has no page_id.",
    )
    assert vendor.calls == []


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_text_message_is_sent(sandbox: Sandbox) -> None:
    config = {"request_encoding": "form"}
    vendor = Vendor(sandbox, "/twilio/2010-04-01", config, account_sid=ACCOUNT, phone_number="+15005550006")
    given = {"twilio_connection_id": vendor.row.pk, "to_number": "+4915112345678", "message": "Hallo"}
    sent = run("send-sms", given)
    assert workflows.result_of(sent)["message_sid"].startswith("SM")
    assert len(sandbox.requests(vendor.key)) == 1
    listed = vendor.client().get(f"/Accounts/{ACCOUNT}/Messages.json", params={"To": given["to_number"]}).json()
    assert workflows.result_of(sent)["message_sid"] in [message["sid"] for message in listed["messages"]]
    assert workflows.result_of(run("send-sms", given)) != workflows.result_of(sent)
    with pytest.raises(InvalidInput):
        start("send-sms", given | {"to_number": "110"})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((running, "carry_on", False), (RunState.SUCCEEDED, "", 1)),  # the run is claimed
        ((Journal, "note_beginning", False), (RunState.SUCCEEDED, "", 1)),
        ((Journal, "note_beginning", True), (RunState.FAILED, "STEP_IN_DOUBT", 0)),
        ((Journal, "store_step", False), (RunState.FAILED, "STEP_IN_DOUBT", 1)),  # Twilio has answered
        ((Journal, "store_step", True), (RunState.SUCCEEDED, "", 1)),
        ((Journal, "succeed", True), (RunState.SUCCEEDED, "", 1)),
    ],
)
def test_no_text_message_is_sent_twice_whenever_the_worker_is_killed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str, bool], expected: Any
) -> None:
    owner, point, is_after = where
    config = {"request_encoding": "form"}
    vendor = Vendor(sandbox, "/twilio/2010-04-01", config, account_sid=ACCOUNT, phone_number="+15005550006")
    begun = start("send-sms", {**SMS, "twilio_connection_id": vendor.row.pk})

    def sweep_and_die() -> None:
        monkeypatch.setattr(owner, point, dying(getattr(owner, point)) if is_after else die)
        running.sweep()

    assert in_child(sweep_and_die) == -signal.SIGKILL
    WorkflowRun.objects.filter(due_at__isnull=False).update(due_at=timezone.now())  # its lease runs out
    assert in_child(running.sweep) == 0
    ended = stored(begun)
    assert (ended.state, ended.error_code, len(vendor.calls)) == expected


def test_a_mail_is_sent(sandbox: Sandbox) -> None:
    vendor = Vendor(sandbox, "/sendgrid/v3", {}, from_email="noreply@example.com", from_name="Example")
    given = {
        "sendgrid_connection_id": vendor.row.pk,
        "to_email": "ada@example.com",
        "to_name": "Ada",
        "subject": "Hello",
        "html_content": "<p>Hi</p>",
    }
    assert len(workflows.result_of(run("send-email", given))["message_id"]) == 22
    assert len(sandbox.requests(vendor.key)) == 1
    for wrong in ({"to_email": "ada"}, {"subject": "a\r\nBcc: x@example.com"}, {"from_email": "a b@c"}):
        with pytest.raises(InvalidInput):
            start("send-email", given | wrong)


def test_a_mail_of_nobody_is_not_sent(sandbox: Sandbox) -> None:
    vendor = Vendor(sandbox, "/sendgrid/v3", {})
    given = {
        "sendgrid_connection_id": vendor.row.pk,
        "to_email": "ada@example.com",
        "subject": "Hello",
        "html_content": "<p>Hi</p>",
    }
    assert run("send-email", given).error_message == "The connection's provider_data has no from_email."
    assert run("send-email", given | {"from_email": "me@example.com"}).state == RunState.SUCCEEDED


def test_a_message_is_posted_to_slack(sandbox: Sandbox) -> None:
    vendor = Vendor(sandbox, "/slack/api", {})
    given = {"slack_connection_id": vendor.row.pk, "channel": "C0000000001", "title": "Build", "message": "It is done."}
    posted = [workflows.result_of(run("post-to-slack", given)) for _ in range(2)]
    assert {one["channel_id"] for one in posted} == {"C0000000001"}
    named = workflows.result_of(run("post-to-slack", given | {"channel": "#general"}))
    assert named["channel_id"] == "C0000000001"
    history = vendor.client().post("/conversations.history", json={"channel": "C0000000001"}).json()["messages"]
    assert [message["ts"] for message in history[:3]] == [named["ts"], posted[1]["ts"], posted[0]["ts"]]
    assert posted[0]["ts"] != posted[1]["ts"]
    refused = run("post-to-slack", given | {"channel": "#nowhere"})
    assert (refused.state, refused.error_message) == (
        RunState.REVERTED,
        "Slack refused the message: channel_not_found.",
    )


def test_an_answer_without_what_was_asked_for() -> None:
    for body in (b"[]", b"{}", b"no json", b'{"id": ""}'):
        response = requests.Response()
        response._content = body
        with pytest.raises(StepFailed) as raised:
            inputs.answered(response, "id")
        assert raised.value.may_have_happened


# --- API keys ---------------------------------------------------------------------------------------------------------

KEY = {"title": "Publishable API key", "type": "secret", "scopes": ["providers:read"]}


def test_an_api_key_is_made_and_handed_over_once() -> None:
    with request_context.acting("user:alice"):
        begun = start("create-api-key", KEY)
        made = finish(begun)
        taken = workflows.take_over(made)
    assert workflows.result_of(made) == {"api_key": {"id": made_key().pk, "redacted": made_key().redacted}}
    assert keys.verify(taken["token"]).is_valid
    assert taken["token"] not in str(vars(stored(made)))
    event = AuditEvent.objects.get(action="api_key.created")
    assert (event.actor, event.object_id) == ("user:alice", made_key().pk)


def made_key() -> ApiKey:
    return ApiKey.objects.get()


@pytest.mark.parametrize("was_used", [False, True])
def test_no_live_key_is_left_when_what_follows_fails(was_used: bool) -> None:
    from connections.recipes.create_api_key import create_key

    @step(name="follow", retries=0)
    def follow(context: Context) -> None:
        if was_used:
            ApiKey.objects.update(last_used_at=timezone.now())
        raise StepFailed("No.")

    workflow("key-and-follow")(lambda context, _: [create_key(context, key=KEY), follow(context)])
    failed = run("key-and-follow", {})
    assert failed.state == RunState.REVERTED
    assert not failed.hands_over
    assert "once" not in failed.steps.get(position=1).contents
    assert ApiKey.objects.exists() is was_used
    assert all(key.revoked_at for key in ApiKey.objects.all())


def test_a_key_that_was_used_just_now_is_kept_revoked() -> None:
    """Its use is noted, and not in the database yet."""
    made = keys.create(KEY).key
    key_use.note_use(made.pk, "192.0.2.1")
    keys.withdraw(made)
    assert made_key().revoked_at is not None


def test_no_key_that_it_was_rolled_to_is_left_live() -> None:
    first = keys.create(KEY).key
    second = keys.roll(first, overlap_seconds=3600).key
    third = keys.roll(second).key
    key_use.note_use(second.pk, None)
    keys.withdraw(first)
    assert [key.pk for key in ApiKey.objects.all() if key.revoked_at and key.revoked_at <= timezone.now()] == [
        second.pk
    ]
    assert not ApiKey.objects.filter(pk__in=[first.pk, third.pk]).exists()


def test_nobody_makes_a_key_that_may_do_more_than_they() -> None:
    tenant = make_tenant()
    bounds = {"allowed_networks": ("10.0.0.0/8",), "rate_limit": 5, "is_limited": True}
    mine = Granter(Scope(tenant.pk), frozenset(("keys:write", "providers:read")), **bounds)  # type: ignore[arg-type]
    for granter, given in (
        (Granter(Scope(tenant.pk), frozenset(("workflows:write", "providers:read"))), KEY),
        (mine, {**KEY, "scopes": ["*"]}),
        (mine, {**KEY, "allowed_networks": ["0.0.0.0/0"]}),
    ):
        with pytest.raises(Forbidden):
            start("create-api-key", given, granter=granter)
    finish(start("create-api-key", KEY, granter=mine))
    key = made_key()
    assert (key.tenant_id, key.allowed_networks, key.rate_limit) == (tenant.pk, ["10.0.0.0/8"], 5)


def test_a_key_made_for_a_tenant_is_the_tenants() -> None:
    """Whoever starts the run for it, and by whatever way."""
    tenant, other = make_tenant(), make_tenant()
    client = Client()
    client.force_login(make_user(is_superuser=True))
    ways: list[Callable[[dict[str, Any]], object]] = [
        lambda given: start("create-api-key", given, tenant=tenant.pk),
        lambda given: with_key().send(
            "post",
            f"{EXTERNAL}/workflows",
            {"name": "create-api-key", "input": given, "salesChannelId": tenant.pk},
        ),
        lambda given: client.post(
            "/admin/connections/workflowrun/add/",
            {"name": "create-api-key", "input": json.dumps(given), "tenant": tenant.pk},
        ),
    ]
    for begin in ways:
        begin(KEY)
        made = finish(WorkflowRun.objects.latest("id"))
        assert (made.state, made.tenant_id) == (RunState.SUCCEEDED, tenant.pk)
        assert ApiKey.objects.latest("id").tenant_id == tenant.pk
        count = WorkflowRun.objects.count()
        with contextlib.suppress(NotFound):
            begin({**KEY, "tenant_id": other.pk})
        assert WorkflowRun.objects.count() == count, "another tenant's key is no run's of this one"
    first = WorkflowRun.objects.earliest("id")
    WorkflowRun.objects.filter(pk=first.pk).update(state=RunState.REVERTED)
    first.steps.update(undo="done")
    again = workflows.retry(stored(first))
    assert json.loads(stored(again).input["json"])["tenant_id"] == tenant.pk


# --- whoever may not call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("send-sms", SMS),
        ("post-to-slack", {"slack_connection_id": "slack", "channel": "C1", "message": "Hi"}),
        ("publish-to-facebook", {"connection_id": "facebook", "image_url": "https://img.example.com/a"}),
        (
            "process-stripe-payment",
            {"stripe_connection_id": "stripe", "amount": 1, "currency": "eur", "customer_id": "cus_7"},
        ),
        ("send-email", {"sendgrid_connection_id": "s", "to_email": "a@b", "subject": "s", "html_content": "h"}),
    ],
)
def test_whoever_may_not_call_providers_starts_nothing_that_does(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(Forbidden, match="proxy"):
        start(name, given, granter=Granter(Scope(), frozenset(("workflows:write",))))
    assert start(name, given, granter=Granter(Scope(), frozenset(("workflows:write", "proxy")))).pk
