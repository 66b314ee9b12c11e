"""The client for other services: it needs requests, and no Django."""
