"""Twilio's messages (www.twilio.com/docs/messaging/api): forms in, JSON out, the account in the path."""

from __future__ import annotations

import hashlib
import re

from connections.sandbox.answers import Answer, Reply, answer_json
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import POST, Route
from connections.sandbox.state import State

_ACCOUNT = re.compile(r"AC[0-9a-f]{32}")
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")


def create_message(request: Request, _state: State) -> Reply:
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
    sid = f"SM{hashlib.sha256(request.body).hexdigest()[:32]}"
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
    return answer_json(message, 201)


def _refuse(code: int, message: str, status: int) -> Answer:
    return answer_json({"code": code, "message": message, "status": status}, status)


ROUTES = (
    Route("/twilio/2010-04-01/Accounts/{account}/Messages.json", create_message, POST, "Twilio's messages: create"),
)
