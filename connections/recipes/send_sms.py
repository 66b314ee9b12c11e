"""``send-sms`` (seed 000): a text message by Twilio."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connections.recipes.inputs import RecipeInput, Reference, answered, stored_fact
from connections.workflows import Context, step, workflow

__all__ = ["SmsInput", "send_message", "send_sms"]


class SmsInput(RecipeInput):
    twilio_connection_id: Reference
    """A connection whose `provider_data` has the `account_sid` and the `phone_number` to send from."""
    to_number: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]
    """In E.164: +4915112345678."""
    message: Annotated[str, Field(min_length=1, max_length=1_600)]


# Twilio knows no idempotency key, and what is sent is sent.
@step(name="send-twilio-message", is_repeatable=False)
def send_message(context: Context, *, connection_id: str, to_number: str, message: str) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    body = {"From": stored_fact(client, "phone_number"), "To": to_number, "Body": message}
    response = client.post(f"/Accounts/{stored_fact(client, 'account_sid')}/Messages.json", body)
    return {"message_sid": answered(response, "sid")}


@workflow("send-sms", input=SmsInput, needs="proxy")
def send_sms(context: Context, given: SmsInput) -> Any:
    """Send a text message by Twilio."""
    return send_message(
        context, connection_id=given.twilio_connection_id, to_number=given.to_number, message=given.message
    )
