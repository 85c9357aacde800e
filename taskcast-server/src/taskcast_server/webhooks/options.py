"""What the configuration says about webhooks: the section ``webhook``."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from taskcast_core.config import option

MAX_RETRIES = 100
MAX_DELAY_MS = 86_400_000
MAX_TIMEOUT_MS = 300_000


@frozen
class Retry:
    """How a delivery is retried, complete. The defaults are those of the wire spec.

    Attributes:
        retries: attempts after the first. initial_delay_ms, max_delay_ms: see `backoff.delay_ms`.
        timeout_ms: of one attempt, from looking up the host to the reply's status.
    """

    retries: int = option(3, minimum=0, maximum=MAX_RETRIES, help="attempts after the first one")
    backoff: Literal["fixed", "linear", "exponential"] = option("exponential", help="how the wait grows")
    initial_delay_ms: int = option(1000, minimum=0, maximum=MAX_DELAY_MS, help="wait before the first retry")
    max_delay_ms: int = option(30_000, minimum=0, maximum=MAX_DELAY_MS, help="longest exponential wait")
    timeout_ms: int = option(5000, minimum=1, maximum=MAX_TIMEOUT_MS, help="limit of one attempt")


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
