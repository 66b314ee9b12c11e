"""``process-stripe-payment`` (seeds 000 and 004): a payment intent for a customer, confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StrictInt

from connections.recipes.inputs import RecipeInput, Reference, admit_caller, answered, delete_once
from connections.workflows import Context, step, workflow
from external_apis.errors import StepFailed, UpstreamClientError

__all__ = ["PaymentInput", "confirm_intent", "create_customer", "create_intent", "process_stripe_payment"]

# What Stripe has or will come by without anybody doing more.
_PROCESSED = ("succeeded", "processing", "requires_capture")
_Id = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_]+$")]


class PaymentInput(RecipeInput):
    stripe_connection_id: Reference
    amount: Annotated[StrictInt, Field(ge=1, le=99_999_999)]
    """In the currency's smallest unit: cents."""
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")]
    customer_id: _Id | None = None
    """A customer of the account; one is created unless given."""
    payment_method: _Id | None = None
    """What the customer pays with; without one the customer's default."""


def _headers(context: Context) -> dict[str, str]:
    return {"Idempotency-Key": context.idempotency_key}


def _delete_customer(context: Context, given: Mapping[str, Any], result: Any) -> None:
    if result is None:
        raise StepFailed("Nobody knows whether the customer was created: look into the account.")
    delete_once(context.get_api_client(given["connection_id"]), f"/customers/{result['customer_id']}")


@step(name="create-stripe-customer", compensate=_delete_customer)
def create_customer(context: Context, *, connection_id: str) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    response = client.post("/customers", {"metadata": {"workflow_run": context.run_id}}, headers=_headers(context))
    return {"customer_id": answered(response, "id")}


def _cancel_intent(context: Context, given: Mapping[str, Any], result: Any) -> None:
    if result is None:
        raise StepFailed("Nobody knows whether the payment intent was created: look into the account.")
    client = context.get_api_client(given["connection_id"])
    path = f"/payment_intents/{result['payment_intent_id']}"
    try:
        client.post(f"{path}/cancel", {}, headers=_headers(context))
    except UpstreamClientError:
        if client.get(path).json().get("status") != "canceled":
            raise


@step(name="create-stripe-payment-intent", compensate=_cancel_intent)
def create_intent(
    context: Context, *, connection_id: str, amount: int, currency: str, customer: str, payment_method: str | None
) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    if payment_method is None:
        payment_method = _default_method(client.get(f"/customers/{customer}").json())
    body = {
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "payment_method": payment_method,
        # Nobody is there to be sent to another page.
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    response = client.post("/payment_intents", body, headers=_headers(context))
    return {"payment_intent_id": answered(response, "id")}


@step(name="confirm-stripe-payment-intent")
def confirm_intent(context: Context, *, connection_id: str, payment_intent: str) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    response = client.post(f"/payment_intents/{payment_intent}/confirm", {}, headers=_headers(context))
    status = answered(response, "status")
    if status not in _PROCESSED:
        raise StepFailed(f"Stripe says that the payment {str(status)[:60].replace('_', ' ')}.")
    return {"status": status}


@workflow("process-stripe-payment", input=PaymentInput, admit=admit_caller)
def process_stripe_payment(context: Context, given: PaymentInput) -> Any:
    """Charge a customer by Stripe; undone by cancelling the intent, and deleting a customer that was created."""
    connection_id = given.stripe_connection_id
    customer = given.customer_id or create_customer(context, connection_id=connection_id)["customer_id"]
    made = create_intent(
        context,
        connection_id=connection_id,
        amount=given.amount,
        currency=given.currency,
        customer=customer,
        payment_method=given.payment_method,
    )
    confirmed = confirm_intent(context, connection_id=connection_id, payment_intent=made["payment_intent_id"])
    return {**made, **confirmed, "customer_id": customer}


def _default_method(customer: Any) -> str | None:
    settings = customer.get("invoice_settings") if isinstance(customer, dict) else None
    method = settings.get("default_payment_method") if isinstance(settings, dict) else None
    return method if isinstance(method, str) else None
