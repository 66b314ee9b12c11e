"""Seed 000's management REST, as far as providers go: ``/admin/external-apis``."""
