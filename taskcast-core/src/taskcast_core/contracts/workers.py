"""Workers, their assignments, and the queue, as a store keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from taskcast_core.models import AssignMode, Task, Worker
from taskcast_core.values import frozen

AssignmentStatus = Literal["offered", "assigned", "running"]


@frozen
class Assignment:
    """One task in one worker's hands.

    Attributes:
        id: names this ownership; a stale owner's calls carry an id that has ended.
        lease_until: ms; past it the sweeper may take the task away.
        confirmed: its worker is known to have it. Offers, claims under way and replies that may have been lost are not.
        status: how it began: ``offered``, or ``assigned`` at once.
    """

    id: str
    task_id: str
    worker_id: str
    cost: int
    assigned_at: int
    lease_until: int
    confirmed: bool
    status: AssignmentStatus = "assigned"

    @property
    def is_open_offer(self) -> bool:
        """Whether its worker has not accepted it, as far as is known."""
        return self.status == "offered" and not self.confirmed


class Workers(Protocol):
    """Registration, capacity and leases. Slots in use are the sum of live assignments, never a counter."""

    async def put_worker(self, worker: Worker) -> Worker:
        """Register or replace a worker (``used_slots`` is ignored: it is computed): the worker as stored."""

    async def get_worker(self, worker_id: str) -> Worker | None:
        """The worker, ``used_slots`` computed."""

    async def list_workers(self) -> Sequence[Worker]:
        """All workers, by id."""

    async def remove_worker(self, worker_id: str) -> bool:
        """Forget a worker; its assignments stay until they are released. False when there was none."""

    async def heartbeat(self, worker_id: str, lease_ms: int) -> Worker | None:
        """Note that it lives, and extend the leases of its confirmed assignments; None when it is not registered."""

    async def queue(self, modes: frozenset[AssignMode], limit: int, after: str | None = None) -> Sequence[Task]:
        """Claimable pending tasks of these modes: highest priority first, then oldest, then id.

        ``after`` is the id of the last task of the page before.
        """

    async def reserve_slot(self, assignment: Assignment) -> bool:
        """Take ``cost`` slots for an assignment, unconfirmed; False when they do not fit or the task is taken.

        A task has at most one assignment, a worker never more cost than ``capacity``. The store sets ``assigned_at``
        and makes ``lease_until`` relative to its own time: the given value is a duration in ms.
        """

    async def confirm(self, assignment_id: str) -> bool:
        """The worker has it: its heartbeats keep it from now on; False when it has ended meanwhile."""

    async def extend(self, assignment_id: str, lease_ms: int) -> bool:
        """Renew one assignment's lease; False when it has ended."""

    async def release_slot(self, assignment_id: str) -> Assignment | None:
        """End an assignment; None when it has ended already. Ending twice frees nothing twice."""

    async def assignments(self, *, worker_id: str | None = None, task_id: str | None = None) -> Sequence[Assignment]:
        """Live assignments of a worker, of a task, or all."""

    async def expired(self, limit: int, lease_ms: int) -> Sequence[Assignment]:
        """Assignments whose lease is over, each hidden from other sweepers for ``lease_ms``."""
