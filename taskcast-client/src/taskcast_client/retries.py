"""How often, and how long apart, something is tried again. Pure, but for the dice."""

from __future__ import annotations

import random

from attrs import frozen

MAX_RETRY_AFTER_S = 60.0
"""A server that asks for more patience than this does not get it."""


@frozen
class RetryPolicy:
    """Jittered exponential backoff.

    Attributes:
        attempts: in all, the first included; 1 is no retry. first_s, longest_s: bounds of the growing wait (s).
    """

    attempts: int = 5
    first_s: float = 0.1
    longest_s: float = 5.0

    def pause_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """How long to wait after so many failures in a row (1, 2 …); never less than the server asks for."""
        ceiling = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        pause = random.uniform(ceiling / 2, ceiling)
        return pause if retry_after_s is None else max(pause, min(retry_after_s, MAX_RETRY_AFTER_S))
