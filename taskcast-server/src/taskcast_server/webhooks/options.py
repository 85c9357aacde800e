"""What the configuration says about webhooks: the section ``webhook``."""

from __future__ import annotations

from typing import Any, Literal

from taskcast_core.config import option
from taskcast_core.values import frozen

MAX_DELAY_MS = 86_400_000
BOUNDS = {
    "retries": (0, 100),
    "initial_delay_ms": (0, MAX_DELAY_MS),
    "max_delay_ms": (0, MAX_DELAY_MS),
    "timeout_ms": (1, 300_000),
}
"""Least and most of each number in a retry setting."""


def _number(name: str, default: int, help: str) -> Any:
    least, most = BOUNDS[name]
    return option(default, minimum=least, maximum=most, help=help)


@frozen
class Retry:
    """How a delivery is retried, complete. The defaults are those of the wire spec.

    Attributes:
        retries: attempts after the first. initial_delay_ms, max_delay_ms: see `backoff.delay_ms`.
        timeout_ms: of one attempt, from looking up the host to the reply's status.
    """

    retries: int = _number("retries", 3, "attempts after the first one")
    backoff: Literal["fixed", "linear", "exponential"] = option("exponential", help="how the wait grows")
    initial_delay_ms: int = _number("initial_delay_ms", 1000, "wait before the first retry")
    max_delay_ms: int = _number("max_delay_ms", 30_000, "longest exponential wait")
    timeout_ms: int = _number("timeout_ms", 5000, "limit of one attempt")


@frozen
class WebhookOptions:
    """The section ``webhook``.

    Attributes:
        default_retry: for what a task's own ``retry`` leaves open.
        allow_private_networks: deliver to private, loopback and link-local addresses as well.
        max_connections: open at a time, to all receivers together.
    """

    default_retry: Retry = option(factory=Retry, help="for what a webhook's own retry leaves open")
    allow_private_networks: bool = option(
        default=False,
        env="TASKCAST_WEBHOOK_ALLOW_PRIVATE_NETWORKS",
        help="deliver to private, loopback and link-local addresses",
    )
    max_connections: int = option(100, minimum=1, maximum=10_000, help="open at a time, to all receivers")
