"""Seed 000's example configurations, their ``…_encrypted`` placeholders replaced by plain keys."""

from __future__ import annotations

from typing import Any

SECRETS = (
    "facebook-client-id-00001",
    "facebook-client-secret-00001",
    "facebook-webhook-secret-00001",
    "sk_live_of_the_seed_00001",
    "whsec_of_the_seed_00001",
    "AC0000000001:twilio-auth-token-00001",
    "SG.sendgrid-key-of-the-seed-00001",
)

FACEBOOK: dict[str, Any] = {
    "id": "ext_api_facebook_001",
    "name": "Facebook Graph API",
    "slug": "facebook",
    "category": "social",
    "provider": "meta",
    "api_config": {
        "base_url": "https://graph.facebook.com/v18.0",
        "api_version": "v18.0",
        "auth_type": "oauth2",
        "oauth2": {
            "client_id": SECRETS[0],
            "client_secret": SECRETS[1],
            "authorization_url": "https://www.facebook.com/v18.0/dialog/oauth",
            "token_url": "https://graph.facebook.com/v18.0/oauth/access_token",
            "scopes": ["pages_show_list", "pages_manage_posts", "instagram_basic"],
            "redirect_uri": "https://yourdomain.com/api/admin/oauth/facebook/callback",
        },
        "rate_limit": {"requests_per_hour": 200},
        "webhook": {
            "url": "https://yourdomain.com/api/webhooks/facebook",
            "secret": SECRETS[2],
            "events": ["feed", "comments", "reactions"],
        },
    },
    "status": "active",
    "is_sandbox": False,
    "environment": "production",
}

STRIPE: dict[str, Any] = {
    "id": "ext_api_stripe_001",
    "name": "Stripe Payment Gateway",
    "slug": "stripe",
    "category": "payment",
    "provider": "stripe",
    "api_config": {
        "base_url": "https://api.stripe.com/v1",
        "api_version": "2024-01-01",
        "auth_type": "bearer",
        "api_key": {"key": SECRETS[3], "header_name": "Authorization", "key_prefix": "Bearer "},
        "rate_limit": {"requests_per_second": 100},
        "webhook": {
            "url": "https://yourdomain.com/api/webhooks/stripe",
            "secret": SECRETS[4],
            "events": ["payment_intent.succeeded", "charge.failed"],
        },
        "timeout_ms": 30000,
        "retry_config": {"max_retries": 3, "backoff_ms": 1000},
    },
    "status": "active",
    "is_sandbox": False,
    "environment": "production",
}

TWILIO: dict[str, Any] = {
    "id": "ext_api_twilio_001",
    "name": "Twilio SMS Service",
    "slug": "twilio",
    "category": "sms",
    "provider": "twilio",
    "api_config": {
        "base_url": "https://api.twilio.com/2010-04-01",
        "api_version": "2010-04-01",
        "auth_type": "basic",
        "api_key": {"key": SECRETS[5], "header_name": "Authorization", "key_prefix": "Basic "},
        "rate_limit": {"requests_per_second": 10},
    },
    "status": "active",
    "is_sandbox": False,
    "environment": "production",
}

SENDGRID: dict[str, Any] = {
    "name": "SendGrid Email",
    "slug": "sendgrid",
    "category": "email",
    "api_config": {
        "base_url": "https://api.sendgrid.com/v3",
        "auth_type": "bearer",
        "api_key": {"key": SECRETS[6], "header_name": "Authorization", "key_prefix": "Bearer "},
    },
}

ALL = (FACEBOOK, STRIPE, TWILIO, SENDGRID)
