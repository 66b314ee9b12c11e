"""Variables that many people have and that no import can take: what each of them is instead."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LEFT"]

_OF_AN_APP = "is of an app that gets its tokens by consent; SHOPIFY_ACCESS_TOKEN is taken"
_UPLOADCARE = "is sent as public key, colon, secret key: connect it by hand"
_ZENDESK = "is sent with the user name E-MAIL/token: connect it by hand"
_COINBASE = "signs calls in Coinbase's own way, which is not OAuth"
_IN_THE_APP = "is the app's own bearer token, and neither x nor twitter takes one"
_PUBLISHABLE = "is a publishable key, or may be one; STRIPE_SECRET_KEY is taken"
_VERIFIES = "verifies what the provider sends, and calls nothing"

LEFT: Mapping[str, str] = {
    "CLOUDFLARE_API_KEY": "is the Global API Key, which is no bearer token; CLOUDFLARE_API_TOKEN is taken",
    "CLOUDINARY_URL": "holds three values in one; CLOUDINARY_CLOUD_NAME, _API_KEY and _API_SECRET are taken",
    "COINBASE_API_KEY": _COINBASE,
    "COINBASE_API_SECRET": _COINBASE,
    "GITHUB_APP_ID": "is no client id; GITHUB_APP_CLIENT_ID is taken",
    "GITHUB_APP_PRIVATE_KEY": "signs requests for tokens, and github-app gets them by consent",
    "GOOGLE_API_KEY": "may be of any Google API; GEMINI_API_KEY, GOOGLE_MAPS_API_KEY and FIREBASE_API_KEY are taken",
    "GRAFANA_API_KEY": "is of an installation of its own, and grafana is grafana.com's sign-in",
    "MAILCHIMP_API_KEY": "is no OAuth client, which is what mailchimp takes",
    "POSTHOG_API_KEY": "is the project's, which only sends events; POSTHOG_PERSONAL_API_KEY is taken",
    "SHOPIFY_API_KEY": _OF_AN_APP,
    "SHOPIFY_API_SECRET": _OF_AN_APP,
    "SHOPIFY_API_SECRET_KEY": _OF_AN_APP,
    "SLACK_APP_ID": "is no client id; SLACK_CLIENT_ID is taken",
    "SLACK_SIGNING_SECRET": _VERIFIES,
    "SLACK_WEBHOOK_URL": "is an address to post to, and no account",
    "STRIPE_KEY": _PUBLISHABLE,
    "STRIPE_PUBLISHABLE_KEY": _PUBLISHABLE,
    "STRIPE_WEBHOOK_SECRET": _VERIFIES,
    "TRELLO_TOKEN": "is sent beside TRELLO_API_KEY in the query, and trello speaks OAuth 1.0a",
    "TWITTER_BEARER_TOKEN": _IN_THE_APP,
    "UPLOADCARE_PUBLIC_KEY": _UPLOADCARE,
    "UPLOADCARE_SECRET_KEY": _UPLOADCARE,
    "X_BEARER_TOKEN": _IN_THE_APP,
    "YOUTUBE_API_KEY": "is no OAuth client, which is what youtube takes",
    "ZENDESK_API_TOKEN": _ZENDESK,
    "ZENDESK_TOKEN": _ZENDESK,
}
"""Reasons by name."""
