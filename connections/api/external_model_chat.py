"""``POST /api/external/models/{id}/chat``: chat completions as OpenAI has them, through the model's connection.

It needs the scope ``proxy``, as any call of a provider does that somebody else's account pays for. ``models:read`` is
not needed beside it: nothing of the model is shown.
"""

from __future__ import annotations

from typing import Any

from django.http.response import HttpResponseBase
from django.urls import path
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from rest_framework.request import Request

from connections.gateway.model_chat import complete
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import Query, writes
from external_apis.admin_api.schema import ResourceSchema
from external_apis.backoffice import ai_models, ai_usage
from external_apis.errors import InvalidInput
from external_apis.provider_input import RowId


class ChatBody(BaseModel):
    """What a provider takes as a chat completion; the fields that are not named here are passed on as well."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, use_attribute_docstrings=True)

    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: StrictBool | None = None
    """Whether the answer is to come in events. The last one then tells what it used, asked for or not."""
    stream_options: dict[str, Any] | None = None


class ChatCompletion(BaseModel):
    """The provider's answer, as it made it."""

    model_config = ConfigDict(extra="allow")


class ChatQuery(Query):
    user_id: RowId = ""
    """The user who is charged for it: one of the model's tenant, or any for a model of the whole installation."""


class ChatSchema(ResourceSchema):
    """The answer is the provider's own, whatever its status, and in no envelope."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        described: Any = super().get_operation(*args, **kwargs)
        responses = described["responses"]
        failure = responses["503"]
        responses["200"]["content"] = {kind: {"schema": {}} for kind in ("application/json", "text/event-stream")}
        responses["200"]["description"] = (
            "The provider's answer as it came; those with other statuses look as it wants."
        )
        responses["502"] = {**failure, "description": "`CONNECT_FAILED`, `BAD_ANSWER` or `EGRESS_REFUSED`."}
        responses["504"] = {**failure, "description": "`CALL_TIMEOUT`: no answer of the provider in time."}
        return described


class ModelChat(ResourceView):
    schema = ChatSchema()

    @writes("chat_with_model", "proxy", ChatBody, ChatCompletion, "Forward a chat completion", query=ChatQuery)
    def post(self, request: Request, model_id: str) -> HttpResponseBase:
        self.require_live()
        _refuse_key(request)
        model = ai_models.find(model_id, self.scope)
        payer_id = self.query.filters().get("user_id")
        payer = ai_usage.find_payer(payer_id, model, self.scope) if payer_id else None
        return complete(model, self.given, payer, self.scope)


def _refuse_key(request: Request) -> None:
    """Raise `InvalidInput` for a promise that is not kept here: a repeated call would be made, and paid, again."""
    if "Idempotency-Key" in request.headers:
        message = "goes with /proxy/{connectionId}/… alone"
        details = {"errors": [{"path": "Idempotency-Key", "message": message}]}
        raise InvalidInput(f"Idempotency-Key {message}.", details=details)


routes = [path("models/<str:model_id>/chat", ModelChat.as_view())]
