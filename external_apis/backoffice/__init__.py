"""The rest of seed 001: plans, AI models, affiliates, withdrawals, analytics and content, as an app of its own.

A project that wants the vault alone sets ``BACKOFFICE_ENABLED`` to false, or leaves the app out.
"""
