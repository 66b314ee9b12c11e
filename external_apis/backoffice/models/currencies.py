"""How a currency is written."""

from __future__ import annotations

from django.core.validators import RegexValidator

CURRENCY_CODE = RegexValidator(r"\A[A-Z]{3}\Z", "Three capital letters, as in ISO 4217.")
