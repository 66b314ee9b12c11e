"""Credentials that stand in environment variables or a ``.env`` file, and their way into the database."""
