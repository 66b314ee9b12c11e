"""Webhooks to others: endpoints, what each is to be told, and the sending of it."""
