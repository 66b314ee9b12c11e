"""Twilio's messages (www.twilio.com/docs/messaging/api): forms in, JSON out, the account in the path."""

from __future__ import annotations

import re

from connections.sandbox.answers import Answer, Reply, answer_json
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

ACCOUNT_SID = f"AC{'0' * 32}"
"""Stands for the sandbox's basic user name, as at Twilio it is the user name; no secret."""
_ACCOUNT = re.compile(r"AC[0-9a-f]{32}")
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")


def handle_messages(request: Request, state: State) -> Reply:
    return create_message(request, state) if request.method == "POST" else list_messages(request, state)


def list_messages(request: Request, state: State) -> Reply:
    """Those to a number, or all of the account: a message that was sent twice is there twice."""
    account, to = request.arguments["account"], request.parameters.get("To")
    with state.lock:
        made = [message for message in state.messages if message.get("account_sid") == account]
    return answer_json({"messages": [message for message in made if to in (None, message["to"])]})


def create_message(request: Request, state: State) -> Reply:
    account = request.arguments["account"]
    if not _ACCOUNT.fullmatch(account):
        return _refuse(20404, "The requested resource was not found", 404)
    if request.content_type != "application/x-www-form-urlencoded":
        return _refuse(12300, "Invalid Content-Type", 415)
    form = dict(parse_pairs(request.body.decode("ascii", "replace")))
    if not _NUMBER.fullmatch(form.get("To", "")):
        return _refuse(21211, "Invalid 'To' Phone Number", 400)
    if not form.get("Body"):
        return _refuse(21602, "Message body is required", 400)
    sid = f"SM{state.make_id()}"
    message = {
        "sid": sid,
        "account_sid": account,
        "to": form["To"],
        "from": form.get("From"),
        "body": form["Body"],
        "status": "queued",
        "direction": "outbound-api",
        "date_created": "Tue, 20 Jan 2026 10:00:00 +0000",
        "uri": f"/2010-04-01/Accounts/{account}/Messages/{sid}.json",
    }
    with state.lock:
        state.messages.append(message)
    return answer_json(message, 201)


def _refuse(code: int, message: str, status: int) -> Answer:
    return answer_json({"code": code, "message": message, "status": status}, status)


_MESSAGES = "/twilio/2010-04-01/Accounts/{account}/Messages.json"

ROUTES = (Route(_MESSAGES, handle_messages, GET | POST, "Twilio's messages: list, create"),)
