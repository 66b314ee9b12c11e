"""Seed 002's External Service API, ``/exsvc``: providers seen as a registry of services, and their credentials."""
