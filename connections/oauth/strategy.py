"""social-core's strategy over one attempt: its settings, its request and its session are the attempt's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from social_core.storage import BaseStorage, NonceMixin
from social_core.strategy import BaseStrategy

__all__ = ["AttemptStrategy"]


class _Nonce(NonceMixin):
    """Single use is decided by the flow's row, which `flows` claims before social-core is asked anything."""

    @classmethod
    def use(cls, *_what: Any) -> bool:
        return True

    @classmethod
    def consume(cls, *_what: Any) -> bool:
        return True


class _Storage(BaseStorage):
    nonce = _Nonce


class AttemptStrategy(BaseStrategy[Any]):
    """``session`` is what one trip to a provider has to remember, and ``data`` what the provider brought back."""

    def __init__(self, session: dict[str, Any] | None = None, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(storage=_Storage)
        self.session = {} if session is None else session
        self._data = dict(data or {})

    def get_setting(self, name: str) -> NoReturn:
        """Settings of the project say nothing about providers, which are rows."""
        raise KeyError(name)

    def get_request_data(self, merge: bool = True) -> dict[str, Any]:
        return self._data

    def session_get(self, name: str, default: Any = None) -> Any:
        return self.session.get(name, default)

    def session_set(self, name: str, value: Any) -> None:
        self.session[name] = value

    def session_pop(self, name: str) -> Any:
        return self.session.pop(name, None)

    def build_absolute_uri(self, path: str | None = None) -> str:
        return path or ""
