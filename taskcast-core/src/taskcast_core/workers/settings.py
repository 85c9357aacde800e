"""What the worker layer is told: its rhythms, and what a worker says of itself."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field

from taskcast_core.models import AssignMode, ConnectionMode, DisconnectPolicy, MatchRule
from taskcast_core.values import frozen

DEFAULT_CAPACITY = 10
DEFAULT_WEIGHT = 50.0


@frozen
class WorkerSettings:
    """Rhythms of the worker layer, in ms; see ``workers.defaults`` in the configuration.

    Attributes:
        assign_mode: of tasks that name none.
        max_concurrent: tasks in workers' hands at a time. max_concurrent_by_type: the same for types that match.
        first_sign_ms: how soon a pull worker must show that the assignment has arrived.
    """

    enabled: bool = False
    assign_mode: AssignMode = "external"
    heartbeat_interval_ms: int = 30_000
    heartbeat_timeout_ms: int = 90_000
    offer_timeout_ms: int = 10_000
    disconnect_policy: DisconnectPolicy = "reassign"
    disconnect_grace_ms: int = 30_000
    first_sign_ms: int = 30_000
    max_concurrent: int | None = None
    max_concurrent_by_type: Mapping[str, int] = field(factory=dict)

    @property
    def lease_ms(self) -> int:
        """How long an assignment lives on after its worker's last sign."""
        return self.heartbeat_timeout_ms + self.disconnect_grace_ms


@frozen
class Registration:
    """What a worker says of itself."""

    worker_id: str | None = None
    match_rule: MatchRule = field(factory=MatchRule)
    capacity: int = DEFAULT_CAPACITY
    weight: float = DEFAULT_WEIGHT
    connection_mode: ConnectionMode = "pull"
