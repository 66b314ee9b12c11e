"""``process-stripe-payment`` (seeds 000 and 004): a payment intent for a customer, confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StrictInt, ValidationInfo, field_validator

from connections.client import ApiClient
from connections.recipes.inputs import RecipeInput, Reference, answered, delete_once
from connections.workflows import Context, nothing_to_undo, step, workflow
from external_apis.errors import StepFailed, UpstreamClientError

__all__ = ["PaymentInput", "confirm_intent", "create_customer", "create_intent", "process_stripe_payment"]

# What Stripe has or will come by without anybody doing more.
_PROCESSED = ("succeeded", "processing", "requires_capture")
# Of refunds: what is or will be the customer's again.
_GIVEN_BACK = ("succeeded", "pending")
_Id = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_]+$")]


class PaymentInput(RecipeInput):
    stripe_connection_id: Reference
    amount: Annotated[StrictInt, Field(ge=1, le=99_999_999)]
    """In the currency's smallest unit: cents."""
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")]
    customer_id: _Id | None = None
    """A customer of the account; one is created unless given."""
    payment_method: Annotated[_Id | None, Field(validate_default=True)] = None
    """What the customer pays with; without one the customer's default. A new customer has none."""

    @field_validator("payment_method")
    @classmethod
    def _can_pay(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("customer_id", "") is None:
            raise ValueError("is needed without a customer_id: a new customer has none")
        return value


def _headers(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def _make_customer(context: Context, given: Mapping[str, Any]) -> dict[str, str]:
    client = context.get_api_client(given["connection_id"])
    body = {"metadata": {"workflow_run": context.run_id}}
    return {"customer_id": answered(client.post("/customers", body, headers=_headers(context.step_key)), "id")}


def _delete_customer(context: Context, given: Mapping[str, Any], result: Any) -> None:
    # Under the same key Stripe tells what was made, or makes it now.
    customer = (result or _make_customer(context, given))["customer_id"]
    client = context.get_api_client(given["connection_id"])
    intents = client.get("/payment_intents", params={"customer": customer, "limit": 100}).json()["data"]
    if any(one.get("status") in _PROCESSED and not _is_refunded(client, one) for one in intents):
        raise StepFailed("The customer has paid, and is kept: what was paid is not given back.")
    delete_once(client, f"/customers/{customer}")


@step(name="create-stripe-customer", compensate=_delete_customer)
def create_customer(context: Context, **given: str) -> dict[str, str]:
    """``connection_id``."""
    return _make_customer(context, given)


@step(name="find-stripe-payment-method", compensate=nothing_to_undo)
def find_method(context: Context, *, connection_id: str, customer: str) -> str:
    method = _default_method(context.get_api_client(connection_id).get(f"/customers/{customer}").json())
    if method is None:
        raise StepFailed("The customer has no default payment method.")
    return method


def _make_intent(context: Context, given: Mapping[str, Any]) -> dict[str, str]:
    body = {
        **{name: given[name] for name in ("amount", "currency", "customer", "payment_method")},
        # Nobody is there to be sent to another page.
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    client = context.get_api_client(given["connection_id"])
    return {
        "payment_intent_id": answered(client.post("/payment_intents", body, headers=_headers(context.step_key)), "id")
    }


def _cancel_intent(context: Context, given: Mapping[str, Any], result: Any) -> None:
    # As above; what is not confirmed charges nobody.
    made = result or _make_intent(context, given)
    client = context.get_api_client(given["connection_id"])
    path = f"/payment_intents/{made['payment_intent_id']}"
    try:
        client.post(f"{path}/cancel", {}, headers=_headers(context.idempotency_key))
    except UpstreamClientError:
        intent = client.get(path).json()
        if intent.get("status") != "canceled" and not _is_refunded(client, intent):
            raise


@step(name="create-stripe-payment-intent", compensate=_cancel_intent)
def create_intent(context: Context, **given: Any) -> dict[str, str]:
    """``connection_id``, ``amount``, ``currency``, ``customer`` and ``payment_method``."""
    return _make_intent(context, given)


def _refund(context: Context, given: Mapping[str, Any], result: Any) -> None:
    """Give back what was paid; what was not is ended with its intent."""
    client = context.get_api_client(given["connection_id"])
    intent = client.get(f"/payment_intents/{given['payment_intent']}").json()
    if intent.get("status") == "processing":
        raise StepFailed("Stripe is still at the payment: it can be given back when that has ended.")
    if intent.get("status") != "succeeded" or _is_refunded(client, intent):
        return
    body = {"payment_intent": given["payment_intent"], "metadata": {"workflow_run": context.run_id}}
    status = answered(client.post("/refunds", body, headers=_headers(context.idempotency_key)), "status")
    if status not in _GIVEN_BACK:
        raise StepFailed(f"Stripe says that the refund {str(status)[:60].replace('_', ' ')}.")


@step(name="confirm-stripe-payment-intent", compensate=_refund)
def confirm_intent(context: Context, *, connection_id: str, payment_intent: str) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    response = client.post(f"/payment_intents/{payment_intent}/confirm", {}, headers=_headers(context.idempotency_key))
    status = answered(response, "status")
    if status not in _PROCESSED:
        raise StepFailed(f"Stripe says that the payment {str(status)[:60].replace('_', ' ')}.")
    return {"status": status}


@workflow("process-stripe-payment", input=PaymentInput, needs="proxy")
def process_stripe_payment(context: Context, given: PaymentInput) -> Any:
    """Charge a customer by Stripe; undone by a refund, cancelling the intent, and deleting a created customer."""
    connection_id = given.stripe_connection_id
    customer = given.customer_id or create_customer(context, connection_id=connection_id)["customer_id"]
    method = given.payment_method or find_method(context, connection_id=connection_id, customer=customer)
    made = create_intent(
        context,
        connection_id=connection_id,
        amount=given.amount,
        currency=given.currency,
        customer=customer,
        payment_method=method,
    )
    confirmed = confirm_intent(context, connection_id=connection_id, payment_intent=made["payment_intent_id"])
    return {**made, **confirmed, "customer_id": customer}


def _is_refunded(client: ApiClient, intent: Mapping[str, Any]) -> bool:
    refunds = client.get("/refunds", params={"payment_intent": intent["id"], "limit": 100}).json()["data"]
    returned = sum(one["amount"] for one in refunds if one.get("status") in _GIVEN_BACK)
    return bool(returned) and returned >= intent["amount"]


def _default_method(customer: Any) -> str | None:
    settings = customer.get("invoice_settings") if isinstance(customer, dict) else None
    method = settings.get("default_payment_method") if isinstance(settings, dict) else None
    return method if isinstance(method, str) else None
