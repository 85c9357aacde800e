"""Workers, their assignments, and the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from attrs import evolve

from taskcast_core import wire
from taskcast_core.contracts.workers import Assignment
from taskcast_core.models import AssignMode, Task, Worker
from taskcast_redis.codec import PRIORITIES, Reply, task_of
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.keys import given, pack, unpack

_TAKEN_AT_ONCE = 1_000


class WorkerTable:
    """Workers and assignments live in one slot, so that reserving is one step."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def _ask(self, verb: str, *arguments: Argument) -> Any:
        return await self._connection.run(verb, [self._connection.keys.workers], arguments)

    async def _tell(self, verb: str, *arguments: Argument) -> Any:
        return await self._connection.run_and_wait(verb, [self._connection.keys.workers], arguments)

    async def put(self, worker: Worker) -> Worker:
        """See Workers.put_worker."""
        used = await self._tell("put_worker", pack(worker.id), worker.capacity, wire.encode(worker))
        return evolve(worker, used_slots=used)

    async def get(self, worker_id: str) -> Worker | None:
        """See Workers.get_worker."""
        return _worker(await self._ask("get_worker", pack(worker_id)))

    async def all(self) -> list[Worker]:
        """See Workers.list_workers."""
        found = [worker for reply in await self._ask("list_workers") if (worker := _worker(reply))]
        return sorted(found, key=lambda worker: worker.id)

    async def remove(self, worker_id: str) -> bool:
        """See Workers.remove_worker."""
        return bool(await self._tell("remove_worker", pack(worker_id)))

    async def heartbeat(self, worker_id: str, lease_ms: int) -> Worker | None:
        """See Workers.heartbeat."""
        return _worker(await self._tell("heartbeat", pack(worker_id), lease_ms))

    async def reserve(self, wanted: Assignment) -> bool:
        """See Workers.reserve_slot."""
        return bool(
            await self._tell(
                "reserve_slot", pack(wanted.id), pack(wanted.task_id), pack(wanted.worker_id), wanted.cost,
                wanted.lease_until, wanted.status,
            )
        )  # fmt: skip

    async def confirm(self, assignment_id: str) -> bool:
        """See Workers.confirm."""
        return bool(await self._tell("confirm", pack(assignment_id)))

    async def extend(self, assignment_id: str, lease_ms: int) -> bool:
        """See Workers.extend."""
        return bool(await self._tell("extend", pack(assignment_id), lease_ms))

    async def release(self, assignment_id: str) -> Assignment | None:
        """See Workers.release_slot."""
        reply = await self._tell("release_slot", pack(assignment_id))
        return None if reply is None else _assignment(reply)

    async def assignments(self, worker_id: str | None, task_id: str | None) -> list[Assignment]:
        """See Workers.assignments."""
        return [_assignment(one) for one in await self._ask("assignments", given(worker_id), given(task_id))]

    async def expired(self, limit: int, lease_ms: int) -> list[Assignment]:
        """See Workers.expired."""
        return [_assignment(one) for one in await self._tell("expired", limit, lease_ms)]

    # ── Queue ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def queue(self, modes: frozenset[AssignMode], limit: int, after: Task | None) -> list[Task]:
        """See Workers.queue. Tasks in somebody's hands are left out; further ones are read in their place."""
        waiting: list[Task] = []
        behind: list[Argument] = ["", "", ""]
        if after is not None:
            behind = [given(PRIORITIES[after.priority or "normal"]), given(after.created_at), pack(after.id)]
        portion = min(max(limit, 16), _TAKEN_AT_ONCE)
        while len(waiting) < limit:
            found = await self._queued([portion, *behind, " ".join(sorted(modes))], portion)
            taken = await self._ask("taken", *(task_id for _, task_id, _ in found))
            waiting += [task_of(one[2]) for one, owner in zip(found, taken, strict=True) if owner is None]
            if len(found) < portion:
                break
            score, task_id, _ = found[-1]
            priority, created_at = divmod(score, _QUEUE_STEP)
            behind = [given(priority), given(created_at), task_id]
        return waiting[:limit]

    async def _queued(self, arguments: Sequence[Argument], portion: int) -> list[Reply]:
        groups = self._connection.groups
        replies = await asyncio.gather(*(self._connection.run("queue", tags, arguments) for tags in groups))
        found = [one for reply in replies for one in reply if one[2] is not None]
        return sorted(found, key=lambda one: (one[0], one[1]))[:portion]


_QUEUE_STEP = 10_000_000_000_000


def _worker(reply: Reply | None) -> Worker | None:
    if reply is None:
        return None
    text, heartbeat_at, used = reply
    worker = evolve(wire.decode(text, Worker), used_slots=used)
    return evolve(worker, last_heartbeat_at=heartbeat_at) if heartbeat_at else worker


def _assignment(one: Reply) -> Assignment:
    id_, task_id, worker_id, cost, assigned_at, lease_until, confirmed, status = one
    return Assignment(
        unpack(id_), unpack(task_id), unpack(worker_id), cost, assigned_at, lease_until, bool(confirmed),
        status.decode(),
    )  # fmt: skip
