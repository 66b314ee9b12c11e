"""A strict fake provider, so that everything can be tried with no account anywhere.

It runs in a process of its own (``python -m connections.sandbox --port 8010``), uses the standard library alone and
imports nothing of the rest of the project. ``definitions.providers`` describes it as provider and connection bodies.
"""
