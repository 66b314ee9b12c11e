"""Every scheme against the vendor's own library or published example, in both directions where there are two."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook as StandardWebhook
from twilio.request_validator import RequestValidator

from connections.webhooks.inbound.deliveries import Delivery, read_all, read_first
from connections.webhooks.inbound.schemes import SCHEMES, Scheme, scheme_of
from connections.webhooks.inbound.signatures import StandardSignature, UnusableSecret
from external_apis.call_config import Webhook

NOW = 1_700_000_000
BODY = '{"id": "evt_1", "text": "Zoë, 日本"}'.encode()
FORM = "application/x-www-form-urlencoded"


def delivery(body: Any = BODY, url: Any = "https://us.example/hook", **headers: str) -> Delivery:
    return Delivery(body, {name.replace("_", "-").lower(): value for name, value in headers.items()}, url)


def signed(scheme: Scheme, secret: str, body: bytes = BODY, **more: str) -> Delivery:
    bare = delivery(body, **more)
    headers = {name.lower(): value for name, value in scheme.signature.sign(bare, secret, NOW).items()}
    return Delivery(body, {**bare.headers, **headers}, bare.url)


def fits(name: str, given: Delivery, secret: str) -> bool:
    return SCHEMES[name].signature.fits(given, secret)


def test_stripe() -> None:
    given = signed(SCHEMES["stripe"], "whsec_a")
    event = stripe.WebhookSignature.verify_header(BODY.decode(), given.header("Stripe-Signature"), "whsec_a")
    assert event
    mac = stripe.WebhookSignature._compute_signature(f"{NOW}.{BODY.decode()}", "whsec_a")
    theirs = delivery(stripe_signature=f"t={NOW},v1={'0' * 64},v1={mac},v0=abc")
    assert fits("stripe", theirs, "whsec_a")
    assert not fits("stripe", theirs, "whsec_b")
    assert SCHEMES["stripe"].signature.signed_at(theirs) == NOW
    # v0 is a test scheme that counts for nothing.
    assert not fits("stripe", delivery(stripe_signature=f"t={NOW},v0={mac}"), "whsec_a")


def test_github_by_its_documentation() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    given = delivery(b"Hello, World!", x_hub_signature_256=f"sha256={digest}")
    assert fits("github", given, "It's a Secret to Everybody")
    assert fits("meta", given, "It's a Secret to Everybody")
    assert not fits("github", delivery(b"Hello, World!", x_hub_signature_256=digest), "It's a Secret to Everybody")


def test_slack() -> None:
    given = signed(SCHEMES["slack"], "8f742231b10e8888abcd99yyyzzz85a5")
    verifier = SignatureVerifier("8f742231b10e8888abcd99yyyzzz85a5")
    stamp, signature = given.header("X-Slack-Request-Timestamp"), given.header("X-Slack-Signature")
    assert verifier.generate_signature(timestamp=stamp, body=BODY) == signature
    theirs = delivery(x_slack_request_timestamp=stamp, x_slack_signature=signature)
    assert fits("slack", theirs, "8f742231b10e8888abcd99yyyzzz85a5")


def test_slack_by_its_documentation() -> None:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    body = (
        b"token=xyzz0WbapA4vBCDEFx0helG84&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
        b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
        b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    verifier = SignatureVerifier("8f742231b10e8888abcd99yyyzzz85a5")
    signature = verifier.generate_signature(timestamp="1531420618", body=body)
    given = delivery(body, x_slack_request_timestamp="1531420618", x_slack_signature=str(signature), content_type=FORM)
    assert fits("slack", given, "8f742231b10e8888abcd99yyyzzz85a5")
    assert read_all(SCHEMES["slack"].event_type, given) == ("/webhook-collect",)
    assert read_first(SCHEMES["slack"].event_id, given).startswith("398738663015")
    assert read_first(SCHEMES["slack"].account, given) == "T1DC2JH3J"


def test_shopify_is_base64() -> None:
    """Shopify's libraries are in other languages; this is their HMAC in a line: base64 of SHA-256 over the body."""
    given = delivery(b"{}", x_shopify_hmac_sha256="dzJZAsrKgS3CWXM6rNBGtzgXNyx3e42VtAJkdHRRbhM=")
    assert fits("shopify", given, "secret")
    assert not fits("shopify", given, "Secret")


@pytest.mark.parametrize("url", ["https://us.example/hook?a=1&b=%20x", "https://us.example:443/hook", "http://us:81/"])
@pytest.mark.parametrize("algorithm", ["HMAC_SHA1", "HMAC_SHA256"])
def test_twilio_forms(url: str, algorithm: str) -> None:
    fields = {"MessageSid": "SM1", "Body": "Zoë & co = 日本", "Empty": "", "MessageStatus": "delivered", "a": "1"}
    signature = RequestValidator("12345").compute_signature(url, fields, algorithm)
    settings = {"x_twilio_webhooks_signature_settings": f"key=k,algorithm={algorithm}"}
    given = delivery(urlencode(fields).encode(), url, x_twilio_signature=signature, content_type=FORM, **settings)
    assert fits("twilio", given, "12345")
    assert not fits("twilio", given, "12346")
    changed = urlencode({**fields, "Body": "else"}).encode()
    assert not fits("twilio", Delivery(changed, given.headers, url), "12345")
    assert read_all(SCHEMES["twilio"].event_type, given) == ("delivered",)
    ours = SCHEMES["twilio"].signature.sign(given, "12345", NOW)["X-Twilio-Signature"]
    assert RequestValidator("12345").validate(url, fields, ours, algorithm)


def test_twilio_json_is_bound_by_its_digest() -> None:
    body = b'[{"id": "EZ1", "type": "com.twilio.messaging.message.delivered"}]'
    url = f"https://us.example/hook?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = RequestValidator("12345").compute_signature(url, {})
    given = delivery(body, url, x_twilio_signature=signature, content_type="application/json")
    assert RequestValidator("12345").validate(url, body.decode(), signature)
    assert fits("twilio", given, "12345")
    assert not fits("twilio", Delivery(body + b" ", given.headers, url), "12345")
    # Without the digest nothing binds the body to the signature.
    bare = RequestValidator("12345").compute_signature("https://us.example/hook", {})
    assert not fits("twilio", delivery(body, x_twilio_signature=bare, content_type="application/json"), "12345")
    assert read_first(SCHEMES["twilio"].event_id, given) == "EZ1"


SENDGRID_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6w"
    "EA3F+g=="
)
SENDGRID_HEADERS = {
    "x_twilio_email_event_webhook_signature": (
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
    ),
    "x_twilio_email_event_webhook_timestamp": "1600112502",
}
SENDGRID_EVENTS = [
    {
        "email": "hello@world.com",
        "event": "dropped",
        "reason": "Bounced Address",
        "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
        "sg_message_id": "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
        "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
        "timestamp": 1600112492,
    }
]


def test_sendgrid_by_its_libraries_example() -> None:
    """The vector of https://github.com/sendgrid/sendgrid-python, test/unit/test_eventwebhook.py."""
    body = json.dumps(SENDGRID_EVENTS, sort_keys=True, separators=(",", ":")).encode() + b"\r\n"
    given = delivery(body, **SENDGRID_HEADERS)
    assert fits("sendgrid", given, SENDGRID_KEY)
    as_pem = f"-----BEGIN PUBLIC KEY-----\n{SENDGRID_KEY[:64]}\n{SENDGRID_KEY[64:]}\n-----END PUBLIC KEY-----\n"
    assert fits("sendgrid", given, as_pem)
    assert not fits("sendgrid", delivery(body.strip(), **SENDGRID_HEADERS), SENDGRID_KEY)
    assert SCHEMES["sendgrid"].signature.signed_at(given) == 1600112502
    assert read_all(SCHEMES["sendgrid"].event_type, given) == ("dropped",)


@pytest.mark.parametrize("curve", [None, ec.SECP384R1()])
def test_what_is_no_key_of_sendgrid_is_said_to_be_none(curve: Any) -> None:
    stored = "bm8ga2V5"
    if curve is not None:
        key = ec.generate_private_key(curve).public_key()
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        stored = b64encode(key.public_bytes(*form)).decode()
    with pytest.raises(UnusableSecret) as caught:
        fits("sendgrid", delivery(**SENDGRID_HEADERS), stored)
    assert stored not in str(caught.value)


def test_sendgrid_with_a_key_of_ones_own() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    stored = b64encode(key.public_key().public_bytes(*form)).decode()
    signature = b64encode(key.sign(b"123" + BODY, ec.ECDSA(hashes.SHA256()))).decode()
    headers = {**SENDGRID_HEADERS, "x_twilio_email_event_webhook_signature": signature}
    headers["x_twilio_email_event_webhook_timestamp"] = "123"
    assert fits("sendgrid", delivery(**headers), stored)
    assert not fits("sendgrid", delivery(**headers), SENDGRID_KEY)


def test_standard_webhooks_by_the_specification() -> None:
    """The vector of https://github.com/standard-webhooks/standard-webhooks."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    headers = {
        "webhook_id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook_timestamp": "1614265330",
        "webhook_signature": "v2,abc v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert fits("standard", delivery(body, **headers), secret)
    assert not fits("standard", delivery(body + b" ", **headers), secret)
    assert not fits("standard", delivery(body, **{**headers, "webhook_id": "msg_other"}), secret)


def test_standard_webhooks_by_its_library() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    given = signed(SCHEMES["standard"], secret, webhook_id="msg_1")
    with pytest.MonkeyPatch.context() as patch:
        # It has no way to be told the time.
        patch.setattr(StandardWebhook, "_Webhook__verify_timestamp", lambda self, text: _moment(text))
        assert StandardWebhook(secret).verify(BODY, dict(given.headers))["id"] == "evt_1"


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(int(text), UTC)


def test_a_malformed_secret_of_standard_webhooks_is_not_quoted() -> None:
    headers = {"webhook_id": "a", "webhook_timestamp": "1614265330", "webhook_signature": "v1,AAAA"}
    with pytest.raises(UnusableSecret) as caught:
        fits("standard", delivery(**headers), "whsec_ß")
    assert "ß" not in str(caught.value)


def own(**fields: Any) -> Scheme:
    block = {"url": "https://us.example/hook", "scheme": "hmac", "signature_header": "X-Sig", **fields}
    scheme = scheme_of(Webhook.model_validate(block), "acme")
    assert scheme is not None
    return scheme


def test_a_scheme_of_ones_own() -> None:
    scheme = own(
        signature_prefix="v1:",
        signature_algorithm="sha512",
        signature_encoding="base64",
        signed_payload="{method} {url}\n{id}\n{timestamp}\n{body}",
        timestamp_header="X-Time",
        event_id_header="X-Id",
        event_type_path="text",
    )
    given = delivery(x_time="1700000000", x_id="{body}")
    text = b"POST https://us.example/hook\n{body}\n1700000000\n" + BODY
    mac = b64encode(hmac.new(b"key", text, "sha512").digest()).decode()
    given = Delivery(BODY, {**given.headers, "x-sig": f"v1:{mac}"}, given.url)
    assert scheme.signature.fits(given, "key")
    assert scheme.signature.signed_at(given) == NOW
    assert not scheme.signature.fits(Delivery(BODY, given.headers, given.url, "PUT"), "key")
    assert (read_first(scheme.event_id, given), read_first(scheme.event_type, given)) == ("{body}", "Zoë, 日本")


@pytest.mark.parametrize(
    "fields",
    [
        {"signature_header": None},
        {"signed_payload": "{timestamp}"},
        {"signed_payload": "{timestamp}.{body}"},
        {"signed_payload": "{id}.{body}"},
        {"timestamp_header": "X-Time"},
        {"signed_payload": "{body}{secret}"},
        {"signed_payload": "{id}{body}", "event_id_header": "X-Id"},
        {"signed_payload": "{body}{id}", "event_id_header": "X-Id"},
        {"signed_payload": "{id}.{timestamp}{id}.{body}", "event_id_header": "X-Id", "timestamp_header": "X-Time"},
        {"signature_header": "no header"},
        {"event_id_path": "a..b"},
        {"scheme": "md5"},
        {"tolerance_seconds": 0},
    ],
)
def test_what_would_prove_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        own(**fields)


HOSTILE = [
    "",
    ",",
    "=",
    "t=,v1=",
    "v1=" + "zz" * 40,
    "t=1e9,v1=ab",
    "t=-1,v1=00",
    "t=01614265330,v1=00",
    "01614265330",
    "+1614265330",
    "\ud800",
    "v1," * 1000,
    "sha256=\u0660",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_hostile_headers_fit_nothing(name: str, text: str) -> None:
    scheme = SCHEMES[name]
    given = Delivery(BODY, {header.lower(): text for header in scheme.signature.required})
    secret = SENDGRID_KEY if name == "sendgrid" else "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert not scheme.signature.fits(given, secret)
    assert scheme.signature.signed_at(given) in (None, -1)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[" * 5000, b'{"id": {"id": 1}}', b"null", b"1e999", b'{"id": "\\u0000"}']
)
@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_hostile_bodies_have_no_id(name: str, body: bytes) -> None:
    scheme = SCHEMES[name]
    for content_type in ("application/json", FORM):
        given = Delivery(body, {"content-type": content_type})
        assert read_first(scheme.event_id, given) == ""
        assert all(len(value) < 100 for value in read_all(scheme.event_type, given))


def test_many_events_of_one_body() -> None:
    body = json.dumps(
        {"object": "page", "entry": [{"changes": [{"field": "feed"}, {"field": "mention"}]}] * 3}
    ).encode()
    assert read_all(SCHEMES["meta"].event_type, delivery(body)) == ("feed", "mention")
    assert read_all(SCHEMES["meta"].event_type, delivery(b'{"object": "page", "entry": []}')) == ("page",)
    user = b'{"object": "user", "entry": [{"uid": "1", "changed_fields": ["photos", "feed"]}]}'
    assert read_all(SCHEMES["meta"].event_type, delivery(user)) == ("photos", "feed")


@pytest.mark.parametrize(
    ("item", "types"),
    [
        ({"message": {"mid": "m"}}, ("messages",)),
        ({"message": {"mid": "m", "is_echo": True}}, ("message_echoes",)),
        ({"delivery": {}}, ("message_deliveries",)),
        ({"read": {"watermark": 1}}, ("message_reads", "messaging_seen")),
        ({"postback": {"referral": {}}}, ("messaging_postbacks",)),
        ({"app_roles": {}}, ("messaging_handovers",)),
        ({"messaging_customer_information": {}, "of_tomorrow": {}}, ("messaging_customer_information",)),
        ({"of_tomorrow": {}}, ("messaging",)),
    ],
)
def test_metas_messages_have_the_names_of_its_fields(item: dict[str, Any], types: tuple[str, ...]) -> None:
    body = {"object": "page", "entry": [{"id": "1", "messaging": [{"sender": {"id": "2"}, **item}]}]}
    assert read_all(SCHEMES["meta"].event_type, delivery(json.dumps(body).encode())) == types
    # In one body with a change both count.
    body["entry"].insert(0, {"changes": [{"field": "feed"}], "standby": [{}]})  # type: ignore[attr-defined]
    assert set(read_all(SCHEMES["meta"].event_type, delivery(json.dumps(body).encode()))) == {"feed", "standby", *types}


@pytest.mark.parametrize("entry", [None, 1, [1], [{"messaging": {"message": 1}}], [{"messaging": [[], "x"]}]])
def test_messages_of_another_shape_are_none(entry: Any) -> None:
    body = json.dumps({"object": "page", "entry": entry}).encode()
    assert read_all(SCHEMES["meta"].event_type, delivery(body)) == ("page",)


def test_a_known_slug_needs_no_scheme_and_another_one_has_none() -> None:
    block = Webhook.model_validate({"url": "https://us.example/hook"})
    assert scheme_of(block, "facebook") is SCHEMES["meta"]
    assert scheme_of(block, "acme") is None
    assert scheme_of(block.model_copy(update={"scheme": "slack"}), "stripe") is SCHEMES["slack"]


def test_the_bytes_are_signed_and_not_what_they_read_as() -> None:
    """Two bodies that are no text are two, though both read as the same replacement character."""
    raw = b"0123456789abcdef0123456789abcdef"
    key = b64encode(raw).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW)}
    mac = hmac.digest(raw, b"msg_1.%d.\xff" % NOW, "sha256")
    headers["webhook-signature"] = f"v1,{b64encode(mac).decode()}"
    assert StandardSignature().fits(Delivery(b"\xff", headers), f"whsec_{key}")
    assert not StandardSignature().fits(Delivery(b"\xfe", headers), f"whsec_{key}")
    assert not StandardSignature().fits(Delivery("\N{REPLACEMENT CHARACTER}".encode(), headers), f"whsec_{key}")
