"""The sandbox as data: provider bodies in seed 000's shape, with a connection where one needs nobody's consent."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from connections.sandbox import credentials
from connections.sandbox.dialects.twilio import ACCOUNT_SID
from connections.sandbox.oauth.registry import SIGNIN_OAUTH1, SIGNIN_OAUTH2

WEBHOOK_SLUG = "sandbox-webhooks"


def providers(base_url: str) -> list[dict[str, Any]]:
    """A provider for each scheme of the sandbox at the origin of ``base_url``, its ``connection`` with a fixed secret.

    Every call makes new objects, so that a caller may change them.
    """
    origin = _origin(base_url)
    return [
        _provider(origin, "bearer", "bearer", {}, {"access_token": credentials.BEARER_TOKEN}),
        _provider(
            origin,
            "api-key-header",
            "api_key",
            {"api_key": {"location": "header", "header_name": credentials.API_KEY_HEADER}},
            {"api_key": credentials.API_KEY},
        ),
        _provider(
            origin,
            "api-key-query",
            "api_key",
            {"api_key": {"location": "query", "query_name": credentials.API_KEY_QUERY}},
            {"api_key": credentials.QUERY_API_KEY},
        ),
        _provider(
            origin,
            "headers",
            "api_key",
            {
                "api_key": {
                    "location": "headers",
                    "headers": {credentials.APP_ID_HEADER: "app_id", credentials.APP_KEY_HEADER: "app_key"},
                }
            },
            {"app_id": credentials.APP_ID, "app_key": credentials.APP_KEY},
        ),
        _provider(
            origin,
            "basic",
            "basic",
            {},
            {"username": credentials.BASIC_USERNAME, "password": credentials.BASIC_PASSWORD},
        ),
        _provider(
            origin,
            "hmac",
            "hmac",
            {
                "hmac": {
                    "algorithm": "sha256",
                    "signature_header": credentials.SIGNATURE_HEADER,
                    "timestamp_header": credentials.TIMESTAMP_HEADER,
                    "template": "{method}\n{path}\n{timestamp}\n{body}",
                    "encoding": "hex",
                }
            },
            {"hmac_secret": credentials.HMAC_SECRET},
        ),
        _provider(
            origin,
            "oauth1",
            "oauth1",
            {
                "oauth1": {
                    "consumer_key": credentials.OAUTH1_CONSUMER_KEY,
                    "consumer_secret": credentials.OAUTH1_CONSUMER_SECRET,
                    "request_token_url": f"{origin}/oauth1/request_token",
                    "authorization_url": f"{origin}/oauth1/authorize",
                    "access_token_url": f"{origin}/oauth1/access_token",
                    "signature_method": "HMAC-SHA256",
                }
            },
            {"oauth_token": credentials.OAUTH1_TOKEN, "oauth_token_secret": credentials.OAUTH1_TOKEN_SECRET},
        ),
        _provider(
            origin,
            "oauth2",
            "oauth2",
            {
                "oauth2": {
                    "client_id": credentials.OAUTH2_CLIENT_ID,
                    "client_secret": credentials.OAUTH2_CLIENT_SECRET,
                    "authorization_url": f"{origin}/oauth/authorize",
                    "token_url": f"{origin}/oauth/token",
                    "scopes": ["read", "write"],
                }
            },
            {"access_token": credentials.OAUTH2_ACCESS_TOKEN},
        ),
        _provider(
            origin,
            "client-credentials",
            "client_credentials",
            {
                "client_credentials": {
                    "client_id": credentials.CLIENT_CREDENTIALS_ID,
                    "client_secret": credentials.CLIENT_CREDENTIALS_SECRET,
                    "token_url": f"{origin}/oauth/token",
                    "scopes": ["read"],
                }
            },
            {"access_token": credentials.CLIENT_CREDENTIALS_TOKEN},
        ),
        _provider(
            origin,
            "bearer-and-key",
            "bearer",
            {"also": {"headers": {credentials.API_KEY_HEADER: "{api_key}"}}},
            {"access_token": credentials.BESIDE_TOKEN, "api_key": credentials.BESIDE_KEY},
        ),
        _provider(
            origin,
            "aws-sigv4",
            "aws_sigv4",
            {"aws_sigv4": {"region": credentials.AWS_REGION, "service": credentials.AWS_SERVICE}},
            {
                "access_key_id": credentials.AWS_ACCESS_KEY_ID,
                "secret_access_key": credentials.AWS_SECRET_ACCESS_KEY,
                "session_token": credentials.AWS_SESSION_TOKEN,
            },
        ),
        _provider(origin, "none", "none", {}, {}),
    ]


def signin_providers(base_url: str) -> list[dict[str, Any]]:
    """Providers whose tokens the sandbox's authorization server issues, and lets expire after a few minutes.

    The two that ask for somebody's consent have no ``connection``: it is made by 'Connect'.
    """
    origin = _origin(base_url)
    by_code, by_client, by_oauth1 = (
        _provider(origin, scheme, auth_type, {auth_type: block}, {})
        for scheme, auth_type, block in (
            (
                "oauth2",
                "oauth2",
                {
                    "client_id": credentials.SIGNIN_CLIENT_ID,
                    "client_secret": credentials.SIGNIN_CLIENT_SECRET,
                    "authorization_url": f"{origin}/oauth/authorize",
                    "token_url": f"{origin}/oauth/token",
                    "revocation_url": f"{origin}/oauth/revoke",
                    "device_authorization_url": f"{origin}/oauth/device_authorization",
                    "issuer": origin,
                    "iss_required": True,
                    "scopes": ["read", "write"],
                },
            ),
            (
                "client-credentials",
                "client_credentials",
                {
                    "client_id": credentials.CLIENT_CREDENTIALS_ID,
                    "client_secret": credentials.CLIENT_CREDENTIALS_SECRET,
                    "token_url": f"{origin}/oauth/token",
                    "revocation_url": f"{origin}/oauth/revoke",
                    "scopes": ["read"],
                },
            ),
            (
                "oauth1",
                "oauth1",
                {
                    "consumer_key": credentials.SIGNIN_CONSUMER_KEY,
                    "consumer_secret": credentials.SIGNIN_CONSUMER_SECRET,
                    "request_token_url": f"{origin}/oauth1/request_token",
                    "authorization_url": f"{origin}/oauth1/authorize",
                    "access_token_url": f"{origin}/oauth1/access_token",
                    "signature_method": "HMAC-SHA256",
                },
            ),
        )
    )
    by_code |= {"name": "Sandbox sign-in (OAuth 2.0)", "slug": SIGNIN_OAUTH2}
    by_client |= {"name": "Sandbox machine (client credentials)", "slug": "sandbox-machine"}
    by_oauth1 |= {"name": "Sandbox sign-in (OAuth 1.0a)", "slug": SIGNIN_OAUTH1}
    del by_code["connection"], by_oauth1["connection"]
    by_client["connection"]["connection_name"] = "Sandbox machine"
    return [by_code, by_client, by_oauth1]


def vendor_providers(base_url: str) -> list[dict[str, Any]]:
    """Providers that speak as well-known ones do, with what the recipes of workflows look for in ``provider_data``."""
    origin = _origin(base_url)
    bearer, form = {"access_token": credentials.BEARER_TOKEN}, {"request_encoding": "form"}
    basic = {"username": credentials.BASIC_USERNAME, "password": credentials.BASIC_PASSWORD}
    stripe = {**form, "api_version": "2024-01-01", "api_version_header": "Stripe-Version"}
    messages = f"/Accounts/{ACCOUNT_SID}/Messages.json"
    phone, page = {"account_sid": ACCOUNT_SID, "phone_number": "+15005550006"}, {"page_id": "546349135390552"}
    sender = {"from_email": "noreply@example.com", "from_name": "Example"}
    return [
        _vendor(origin, "/stripe/v1", bearer, {**stripe, "test_path": "/customers"}, {}),
        _vendor(origin, "/twilio/2010-04-01", basic, {**form, "test_path": messages}, phone),
        _vendor(origin, "/slack/api", bearer, {"test_path": "/auth.test"}, {}),
        _vendor(origin, "/sendgrid/v3", bearer, {"test_path": "/scopes"}, sender),
        _vendor(origin, "/facebook/v18.0", bearer, form, page),
    ]


def webhook_provider(base_url: str, webhook_url: str) -> dict[str, Any]:
    """A provider whose webhooks come to ``webhook_url``, signed by Standard Webhooks; it needs no credentials."""
    webhook = {"url": webhook_url, "scheme": "standard", "secret": credentials.WEBHOOK_SECRET}
    body = _provider(_origin(base_url), "none", "none", {"webhook": webhook}, {})
    body |= {"name": "Sandbox (webhooks)", "slug": WEBHOOK_SLUG}
    body["connection"]["connection_name"] = "Sandbox connection (webhooks)"
    return body


def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _provider(
    origin: str, scheme: str, auth_type: str, block: dict[str, Any], secrets: dict[str, str]
) -> dict[str, Any]:
    base_url = origin if scheme == "none" else f"{origin}/auth/{scheme}"
    return {
        "name": f"Sandbox ({scheme})",
        "slug": f"sandbox-{scheme}",
        "category": "other",
        "environment": "development",
        "is_sandbox": True,
        "api_config": {"base_url": base_url, "auth_type": auth_type, "test_path": "/me", **block},
        "connection": {
            "connection_name": f"Sandbox connection ({scheme})",
            "slug": "default",
            "credentials": secrets,
            "provider_data": {"account_id": f"acct_sandbox_{scheme.replace('-', '_')}"},
        },
    }


def _vendor(
    origin: str, path: str, secrets: dict[str, str], block: dict[str, Any], data: dict[str, str]
) -> dict[str, Any]:
    name = path.split("/")[1]
    scheme = "basic" if "username" in secrets else "bearer"
    body = _provider(origin, scheme, scheme, block, dict(secrets))
    body |= {"name": f"Sandbox (as {name.capitalize()})", "slug": f"sandbox-{name}"}
    body["api_config"]["base_url"] += path
    body["connection"] |= {"connection_name": f"Sandbox connection (as {name.capitalize()})", "provider_data": data}
    return body
