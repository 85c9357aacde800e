"""What an engine is measured and traced with; by default with nothing, at the price of asking an attribute."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from taskcast_core.meters import Meters
from taskcast_core.values import frozen


class Span(Protocol):
    """A piece of work that is under way."""

    def link(self, traceparent: str | None) -> None:
        """Relate it to another trace (W3C ``traceparent``); None and what is none are ignored."""

    def note(self, **facts: str | int | bool) -> None:
        """Say more about it; never payloads or secrets."""


class Tracer(Protocol):
    """Whoever records spans."""

    def span(self, name: str, **facts: str | int | bool) -> AbstractContextManager[Span]:
        """Record what is done within, as a part of what this coroutine is recorded to do; errors that pass, too."""

    @property
    def traceparent(self) -> str | None:
        """What this coroutine is recorded to do (W3C ``traceparent``); None when it is not."""


@frozen
class Instruments:
    """Both, each optional."""

    meters: Meters | None = None
    tracer: Tracer | None = None


NONE = Instruments()
