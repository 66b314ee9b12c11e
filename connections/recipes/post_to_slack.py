"""``post-to-slack`` (seed 004): a message with a bold title in a channel."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connections.recipes.inputs import RecipeInput, Reference, answered
from connections.workflows import Context, step, workflow
from external_apis.errors import StepFailed

__all__ = ["SlackInput", "post_message", "post_to_slack"]


class SlackInput(RecipeInput):
    slack_connection_id: Reference
    channel: Annotated[str, Field(min_length=1, max_length=200)]
    """A channel's id or #name."""
    title: Annotated[str, Field(max_length=500)] = ""
    message: Annotated[str, Field(min_length=1, max_length=2_900)]


# Slack knows no idempotency key.
@step(name="post-slack-message", is_repeatable=False)
def post_message(context: Context, *, connection_id: str, channel: str, text: str) -> dict[str, str]:
    client = context.get_api_client(connection_id)
    # The text is what notifications show.
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    response = client.post("/chat.postMessage", json={"channel": channel, "text": text, "blocks": [section]})
    if (answer := response.json()).get("ok") is not True:
        raise StepFailed(f"Slack refused the message: {str(answer.get('error'))[:100]}.")
    return {"channel_id": answered(response, "channel"), "ts": answered(response, "ts")}


@workflow("post-to-slack", input=SlackInput, needs="proxy")
def post_to_slack(context: Context, given: SlackInput) -> Any:
    """Post a message to a Slack channel."""
    text = f"*{given.title}*\n{given.message}" if given.title else given.message
    return post_message(context, connection_id=given.slack_connection_id, channel=given.channel, text=text)
