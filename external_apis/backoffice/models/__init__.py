"""The backoffice's tables."""
