"""``send-email`` (seed 004): a mail by SendGrid."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connections.recipes.inputs import RecipeInput, Reference, Text, stored_fact
from connections.workflows import Context, step, workflow

__all__ = ["EmailInput", "send_email", "send_mail"]

_Address = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)]


class EmailInput(RecipeInput):
    sendgrid_connection_id: Reference
    """A connection whose `provider_data` has the `from_email` and may have the `from_name`, unless they are given."""
    to_email: _Address
    to_name: Annotated[str, Field(max_length=200)] = ""
    subject: Annotated[str, Field(min_length=1, max_length=998, pattern=r"^[^\r\n]+$")]
    html_content: Text
    from_email: _Address | None = None
    from_name: Annotated[str, Field(max_length=200)] = ""


# SendGrid knows no idempotency key, and what is sent is sent.
@step(name="send-sendgrid-mail", is_repeatable=False)
def send_mail(context: Context, *, connection_id: str, mail: dict[str, Any]) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    if "email" not in mail["from"]:
        name = str(client.target.provider_data.get("from_name") or "")
        mail = {**mail, "from": _person(stored_fact(client, "from_email"), mail["from"].get("name") or name)}
    response = client.post("/mail/send", json=mail)
    return {"message_id": response.headers.get("X-Message-Id", "")}


@workflow("send-email", input=EmailInput, needs="proxy")
def send_email(context: Context, given: EmailInput) -> Any:
    """Send a mail by SendGrid."""
    mail = {
        "personalizations": [{"to": [_person(given.to_email, given.to_name)], "subject": given.subject}],
        "from": _person(given.from_email, given.from_name),
        "content": [{"type": "text/html", "value": given.html_content}],
    }
    return send_mail(context, connection_id=given.sendgrid_connection_id, mail=mail)


def _person(email: str | None, name: str) -> dict[str, str]:
    return {key: value for key, value in (("email", email), ("name", name)) if value}
