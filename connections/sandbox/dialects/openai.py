"""OpenAI's models and chat completions (platform.openai.com/docs/api-reference): whole, or as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from connections.sandbox.answers import Answer, Reply, Stream, answer_json
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

_MODEL = "sandbox-1"
_CREATED = 1_768_903_200
_PAUSE_SECONDS = 0.2


def list_models(_request: Request, _state: State) -> Reply:
    model = {"id": _MODEL, "object": "model", "created": _CREATED, "owned_by": "sandbox"}
    return answer_json({"object": "list", "data": [model]})


def complete(request: Request, _state: State) -> Reply:
    """Say the last message back, word by word where it is streamed, a fifth of a second apart. A word is a token."""
    try:
        asked = json.loads(request.body)
        words = str(asked["messages"][-1]["content"]).split()
        usage = _usage(sum(len(str(message["content"]).split()) for message in asked["messages"]), len(words))
        model, options = asked["model"], asked.get("stream_options")
    except (ValueError, LookupError, TypeError, AttributeError):
        return _refuse("The body is no chat completion.", 400)
    if request.content_type != "application/json":
        return _refuse("The body has to be JSON.", 415)
    if model != _MODEL:
        return _refuse(f"The model {_MODEL} is the only one.", 404)
    if options is not None and not (asked.get("stream") and _are_options(options)):
        return _refuse("stream_options holds include_usage and no other, and goes with stream alone.", 400)
    if asked.get("stream"):
        told = usage if options and options.get("include_usage") else None
        return Stream(_events(words, told), content_type="text/event-stream; charset=utf-8")
    message = {"role": "assistant", "content": " ".join(words), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return answer_json({**_completion("chat.completion", [choice]), "usage": usage})


def _are_options(given: Any) -> bool:
    return isinstance(given, dict) and all(
        name == "include_usage" and isinstance(value, bool) for name, value in given.items()
    )


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _events(words: list[str], usage: dict[str, int] | None) -> Iterator[bytes]:
    """Where usage is asked for, each event has the field, and the last one, which has no choice, its value."""
    kind, empty = "chat.completion.chunk", {} if usage is None else {"usage": None}
    for index, word in enumerate(words):
        if index:
            time.sleep(_PAUSE_SECONDS)
        delta = {"content": word if index == 0 else f" {word}"}
        yield _event({**_completion(kind, [{"index": 0, "delta": delta, "finish_reason": None}]), **empty})
    yield _event({**_completion(kind, [{"index": 0, "delta": {}, "finish_reason": "stop"}]), **empty})
    if usage is not None:
        yield _event({**_completion(kind, []), "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(data: Any) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def _completion(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-sandbox", "object": kind, "created": _CREATED, "model": _MODEL, "choices": choices}


def _refuse(message: str, status: int) -> Answer:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return answer_json({"error": error}, status)


ROUTES = (
    Route("/openai/v1/models", list_models, GET, "OpenAI's models"),
    Route("/openai/v1/chat/completions", complete, POST, "OpenAI's chat completions, stream=true for events"),
)
