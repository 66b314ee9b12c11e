"""Workflows that ship with the product, one file each: importing this makes them known."""

from connections.recipes import (
    create_api_key,
    post_to_slack,
    process_stripe_payment,
    publish_to_facebook,
    send_email,
    send_sms,
)

__all__ = [
    "create_api_key",
    "post_to_slack",
    "process_stripe_payment",
    "publish_to_facebook",
    "send_email",
    "send_sms",
]
