"""SendGrid's mail (www.twilio.com/docs/sendgrid/api-reference/mail-send): JSON in, an empty 202 with an id out."""

from __future__ import annotations

import json
from typing import Any

from connections.sandbox.answers import Answer, Reply, answer_json
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State


def send_mail(request: Request, state: State) -> Reply:
    try:
        mail = json.loads(request.body)
        people = [person for group in mail["personalizations"] for person in group["to"]]
        subject = mail.get("subject") or mail["personalizations"][0]["subject"]
        sender, contents = mail["from"]["email"], [part["value"] for part in mail["content"]]
    except (ValueError, LookupError, TypeError, AttributeError):
        return _refuse("personalizations", "The personalizations, from, subject and content are required.")
    if not people or not all(_is_address(person.get("email")) for person in people):
        return _refuse("personalizations.0.to.0.email", "Does not contain a valid address.")
    if not _is_address(sender):
        return _refuse("from.email", "The from email does not contain a valid address.")
    if not subject or not all(contents):
        return _refuse("subject", "The subject and the content are to be at least one character in length.")
    return Answer(202, headers={"X-Message-Id": state.make_id()[:22]})


def list_scopes(_request: Request, _state: State) -> Reply:
    return answer_json({"scopes": ["mail.send"]})


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value.count("@") == 1 and not value.startswith("@") and not value.endswith("@")


def _refuse(field: str, message: str) -> Answer:
    return answer_json({"errors": [{"message": message, "field": field, "help": None}]}, 400)


ROUTES = (
    Route("/sendgrid/v3/mail/send", send_mail, POST, "takes a mail as SendGrid does"),
    Route("/sendgrid/v3/scopes", list_scopes, GET, "what its key may do"),
)
