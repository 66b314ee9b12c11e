"""A chat completion in events through the real server, to somebody who hangs up in the middle of it."""

from __future__ import annotations

import json
import time

import pytest

from external_apis.backoffice.models import AiCall
from tests.ai_models import make_ai_model
from tests.connections.gateway.conftest import Connect
from tests.envelope import EXTERNAL
from tests.web import Web

pytestmark = pytest.mark.django_db(transaction=True)


def test_events_come_as_they_are_said_and_whoever_hangs_up_is_counted(web: Web, connect: Connect, token: str) -> None:
    model = make_ai_model(name="sandbox-1", connection=connect("bearer", "/openai/v1").pk)
    words = " ".join(f"word-{number}" for number in range(40))
    body = json.dumps({"messages": [{"role": "user", "content": words}], "stream": True})
    caller = web.connect()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    caller.request("POST", f"{EXTERNAL}/models/{model.pk}/chat", body, headers)
    answer = caller.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    first = answer.read1()
    assert b"word-0" in first
    assert b"word-9" not in first
    caller.close()
    answer.close()
    deadline = time.monotonic() + 5
    while not AiCall.objects.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The rest, which takes the provider eight seconds, is neither waited for nor paid.
    assert 1 <= AiCall.objects.get().total_tokens < 20
