"""The rival's one app; it reads our tables and makes none."""

from __future__ import annotations

from pathlib import Path

from django.apps import AppConfig


class Rival(AppConfig):
    name = "tests.bench.rival"
    label = "rival"
    path = str(Path(__file__).parent)
