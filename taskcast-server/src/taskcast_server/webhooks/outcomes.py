"""How deliveries went."""

from __future__ import annotations

from taskcast_core.values import frozen


@frozen
class Outcome:
    """How one attempt went.

    Attributes:
        delivered: the receiver answered 2xx. status: what it answered, if it did.
        error: what went wrong before a final status; without addresses, credentials or paths.
        may_retry: False where another attempt cannot go differently.
        latency_ms: of the whole attempt.
    """

    delivered: bool
    latency_ms: int
    status: int | None = None
    error: str | None = None
    may_retry: bool = True

    @property
    def reason(self) -> str:
        """``HTTP 503``, or the error."""
        return self.error if self.error is not None else f"HTTP {self.status}"


class DeliveryFailed(Exception):
    """A delivery that was given up; what the hook ``taskcast_webhook_failed`` is told.

    Attributes:
        attempts: how many there were. outcome: of the last.
    """

    def __init__(self, attempts: int, outcome: Outcome) -> None:
        self.attempts, self.outcome = attempts, outcome
        super().__init__(f"Webhook delivery failed after {attempts} attempts: {outcome.reason}")
