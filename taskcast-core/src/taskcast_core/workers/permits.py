"""Bounds on how many tasks are in workers' hands at a time: overall, and per type pattern.

A bound is kept by the same atomic verb as a worker's capacity: each is a row of slots of its own in the store, under a
name that no worker has, and a claim takes a slot in every row that its task belongs to. These slots are leased, too:
one whose claim is gone ends with its lease.
"""

from __future__ import annotations

from collections.abc import Mapping

from taskcast_core.contracts.workers import Assignment, Workers
from taskcast_core.filters import matches_type
from taskcast_core.models import MatchRule, Task, Worker
from taskcast_core.values import frozen
from taskcast_core.workers.settings import WorkerSettings

PREFIX = "\x1flimit:"
"""Begins the names of the rows; no worker may be called so."""
_OF = "\x1f"


@frozen
class _Row:
    name: str
    pattern: str | None
    maximum: int

    def is_for(self, task: Task) -> bool:
        return self.pattern is None or (task.type is not None and matches_type(self.pattern, task.type))


def is_permit(held: Assignment) -> bool:
    """Whether this is a slot of a bound, and no worker's."""
    return held.worker_id.startswith(PREFIX)


class Permits:
    """The bounds of the configuration; all nodes should have the same."""

    def __init__(self, store: Workers, settings: WorkerSettings) -> None:
        self._store, self._lease_ms = store, settings.lease_ms
        rows = [_Row(f"{PREFIX}{pattern}", pattern, most) for pattern, most in settings.max_concurrent_by_type.items()]
        if settings.max_concurrent is not None:
            rows.append(_Row(f"{PREFIX}{_OF}all", None, settings.max_concurrent))
        self._rows = tuple(rows)

    async def open(self) -> None:
        """Make the rows known to the store, with the bounds of this configuration."""
        for row in self._rows:
            await self._store.put_worker(
                Worker(
                    row.name, "draining", MatchRule(), row.maximum, 0, 0, "pull", connected_at=0, last_heartbeat_at=0
                )
            )

    async def room(self) -> Mapping[str, int]:
        """How many more tasks each bound has room for."""
        room = {}
        for row in self._rows:
            worker = await self._store.get_worker(row.name)
            room[row.name] = row.maximum if worker is None else worker.capacity - worker.used_slots
        return room

    def fits(self, task: Task, room: Mapping[str, int]) -> bool:
        """Whether a task may be claimed, as far as is known."""
        return all(room[row.name] > 0 for row in self._rows if row.is_for(task))

    async def take(self, task: Task, assignment_id: str) -> bool:
        """Take a slot of every bound that concerns a task; False, and none is taken, where there is no room."""
        for row in self._rows:
            if row.is_for(task) and not await self._take(row, task.id, assignment_id):
                await self.give_back(assignment_id)
                return False
        return True

    async def _take(self, row: _Row, task_id: str, assignment_id: str) -> bool:
        wanted = Assignment(
            f"{assignment_id}{row.name}", f"{row.name}{_OF}{task_id}", row.name, 1, 0, self._lease_ms, confirmed=False
        )
        if await self._store.reserve_slot(wanted):
            return True
        if any(held.id == wanted.id for held in await self._store.assignments(task_id=wanted.task_id)):
            return True  # taken before: a worker accepts twice at once
        if await self._store.get_worker(row.name) is not None:
            return False
        await self.open()  # the store has been emptied
        return await self._store.reserve_slot(wanted)

    async def give_back(self, assignment_id: str) -> None:
        """End what was taken for an assignment."""
        for row in self._rows:
            await self._store.release_slot(f"{assignment_id}{row.name}")

    async def look_at(self, permit: Assignment) -> bool:
        """The lease of a permit is over: extend it if its claim still stands; else end it, and return False."""
        task_id = permit.task_id.removeprefix(permit.worker_id + _OF)
        claims = await self._store.assignments(task_id=task_id)
        if any(f"{held.id}{permit.worker_id}" == permit.id for held in claims):
            return await self._store.extend(permit.id, self._lease_ms)
        await self._store.release_slot(permit.id)
        return False
