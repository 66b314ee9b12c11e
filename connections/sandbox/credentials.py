"""The credentials the sandbox accepts: fixed, published and worthless anywhere else.

They are long enough not to occur by chance, so that a test may search logs, tables and pages for them.
"""

from __future__ import annotations

BEARER_TOKEN = "sandbox-bearer-token-0001"
API_KEY = "sandbox-api-key-header-0001"
QUERY_API_KEY = "sandbox-api-key-query-0001"
APP_ID = "sandbox-headers-app-id-0001"
APP_KEY = "sandbox-headers-app-key-0001"
BASIC_USERNAME = "sandbox-basic-user-0001"
BASIC_PASSWORD = "sandbox-basic-password-0001"
HMAC_SECRET = "sandbox-hmac-secret-0001"
OAUTH1_CONSUMER_KEY = "sandbox-oauth1-consumer-0001"
OAUTH1_CONSUMER_SECRET = "sandbox-oauth1-consumer-secret-0001"
OAUTH1_TOKEN = "sandbox-oauth1-token-0001"
OAUTH1_TOKEN_SECRET = "sandbox-oauth1-token-secret-0001"
OAUTH2_CLIENT_ID = "sandbox-oauth2-client-0001"
OAUTH2_CLIENT_SECRET = "sandbox-oauth2-client-secret-0001"
OAUTH2_ACCESS_TOKEN = "sandbox-oauth2-access-token-0001"
CLIENT_CREDENTIALS_ID = "sandbox-machine-client-0001"
CLIENT_CREDENTIALS_SECRET = "sandbox-machine-client-secret-0001"
CLIENT_CREDENTIALS_TOKEN = "sandbox-machine-access-token-0001"
AWS_ACCESS_KEY_ID = "AKIASANDBOX000000001"
AWS_SECRET_ACCESS_KEY = "sandbox-aws-secret-access-key-0001"
AWS_SESSION_TOKEN = "sandbox-aws-session-token-0001"
SIGNIN_CLIENT_ID = "sandbox-signin-client-0001"
SIGNIN_CLIENT_SECRET = "sandbox-signin-client-secret-0001"
SIGNIN_CONSUMER_KEY = "sandbox-signin-consumer-0001"
SIGNIN_CONSUMER_SECRET = "sandbox-signin-consumer-secret-0001"
BESIDE_KEY = "sandbox-key-beside-token-0001"
BESIDE_TOKEN = "sandbox-token-beside-key-0001"

ISSUED_PREFIX = "sandbox-issued."
"""Begins every token that the authorization server issues."""
SIGNING_KEY = "sandbox-signing-key-of-issued-tokens-0001"

AWS_REGION = "eu-central-1"
AWS_SERVICE = "execute-api"
API_KEY_HEADER = "X-API-Key"
API_KEY_QUERY = "api_key"
APP_ID_HEADER = "X-App-Id"
APP_KEY_HEADER = "X-App-Key"
TIMESTAMP_HEADER = "X-Timestamp"
SIGNATURE_HEADER = "X-Signature"

SECRETS = frozenset(
    {
        BEARER_TOKEN,
        API_KEY,
        QUERY_API_KEY,
        APP_ID,
        APP_KEY,
        BASIC_PASSWORD,
        HMAC_SECRET,
        OAUTH1_CONSUMER_SECRET,
        OAUTH1_TOKEN,
        OAUTH1_TOKEN_SECRET,
        OAUTH2_CLIENT_SECRET,
        SIGNIN_CLIENT_SECRET,
        SIGNIN_CONSUMER_SECRET,
        OAUTH2_ACCESS_TOKEN,
        CLIENT_CREDENTIALS_SECRET,
        CLIENT_CREDENTIALS_TOKEN,
        AWS_SECRET_ACCESS_KEY,
        AWS_SESSION_TOKEN,
        BESIDE_KEY,
        BESIDE_TOKEN,
    }
)

WEBHOOK_SECRET = "whsec_c2FuZGJveCBzYW5kYm94IHNhbmRib3gh"
