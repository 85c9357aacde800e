"""Who the workers are: registration, heartbeats, status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import evolve

from taskcast_core.contracts.workers import Workers
from taskcast_core.errors import InvalidInput, WorkerNotFound
from taskcast_core.ids import new_ulid
from taskcast_core.models import MatchRule, Worker, WorkerStatus
from taskcast_core.observers import Observers
from taskcast_core.workers.audit import AuditLog
from taskcast_core.workers.news import News
from taskcast_core.workers.permits import PREFIX
from taskcast_core.workers.settings import Registration, WorkerSettings

FORGET_MS = 24 * 3600 * 1000
"""A worker that has been silent for so long, and holds nothing, is forgotten."""


class Roster:
    """The workers of the whole system, as the store keeps them."""

    def __init__(
        self,
        store: Workers,
        audit: AuditLog,
        observers: Observers,
        news: News,
        settings: WorkerSettings,
        node: str,
    ) -> None:
        self._store, self._audit, self._observers = store, audit, observers
        self._news, self._settings, self.node = news, settings, node

    async def register(self, wanted: Registration, now: int) -> Worker:
        """Make a worker known, or known again: its tasks are still its own if their leases have not run out.

        Raises:
            InvalidInput: the capacity is not positive, or the id is reserved.
        """
        check_capacity(wanted.capacity)
        if wanted.worker_id is not None and wanted.worker_id.startswith(PREFIX):
            raise InvalidInput([("workerId", "is reserved")])
        worker = Worker(
            id=wanted.worker_id or new_ulid(now),
            status="idle",
            match_rule=wanted.match_rule,
            capacity=wanted.capacity,
            used_slots=0,
            weight=wanted.weight,
            connection_mode=wanted.connection_mode,
            connected_at=now,
            last_heartbeat_at=now,
            node=self.node if wanted.connection_mode == "websocket" else None,
        )
        await self._store.put_worker(worker)
        worker = await self.heartbeat(worker.id)
        if self._observers.worker_connected:
            self._observers.worker_connected(worker=worker)
        self._audit.add(worker.id, "connected")
        self._news.worker_changed(worker.id)
        return worker

    async def update(
        self,
        worker_id: str,
        *,
        weight: float | None = None,
        capacity: int | None = None,
        match_rule: MatchRule | None = None,
        status: WorkerStatus | None = None,
    ) -> Worker:
        """Change what a worker said of itself, or drain it.

        Raises:
            WorkerNotFound. InvalidInput: the capacity is not positive.
        """
        if capacity is not None:
            check_capacity(capacity)
        worker = await self.get(worker_id)
        wanted = evolve(
            worker,
            weight=worker.weight if weight is None else weight,
            capacity=worker.capacity if capacity is None else capacity,
            match_rule=worker.match_rule if match_rule is None else match_rule,
            status=worker.status if status is None else status,
        )
        if wanted == worker:
            return worker
        changed = await self._store.put_worker(wanted)
        self._audit.add(worker_id, "draining" if status == "draining" else "updated")
        self._news.worker_changed(worker_id)
        return shown(changed)

    async def get(self, worker_id: str) -> Worker:
        """A worker.

        Raises:
            WorkerNotFound.
        """
        worker = None if worker_id.startswith(PREFIX) else await self._store.get_worker(worker_id)
        if worker is None:
            raise WorkerNotFound(worker_id)
        return shown(worker)

    async def all(self) -> list[Worker]:
        """All workers, by id."""
        return [shown(worker) for worker in await self._listed()]

    async def without_offers(self, workers: Sequence[Worker]) -> list[Worker]:
        """The workers as others see them. An open offer holds slots, so that no other offer is made for them, but a
        worker has not taken anything yet: nothing of it is in use (wire spec, workers section 5).
        """
        if not any(worker.used_slots and worker.connection_mode == "websocket" for worker in workers):
            return list(workers)
        offered: Counter[str] = Counter()
        for held in await self._store.assignments(worker_id=workers[0].id if len(workers) == 1 else None):
            if held.is_open_offer:
                offered[held.worker_id] += held.cost
        return [shown(evolve(each, used_slots=max(0, each.used_slots - offered[each.id]))) for each in workers]

    async def _listed(self) -> list[Worker]:
        return [worker for worker in await self._store.list_workers() if not worker.id.startswith(PREFIX)]

    async def heartbeat(self, worker_id: str) -> Worker:
        """A sign of life: extends the leases that it has confirmed, and brings it back online.

        Raises:
            WorkerNotFound.
        """
        is_reserved = worker_id.startswith(PREFIX)
        worker = None if is_reserved else await self._store.heartbeat(worker_id, self._settings.lease_ms)
        if worker is None:
            raise WorkerNotFound(worker_id)
        if worker.status == "offline":
            worker = await self._store.put_worker(evolve(worker, status="idle"))
            self._news.worker_changed(worker_id)
        return shown(worker)

    async def remove(self, worker_id: str, reason: str = "unregistered") -> None:
        """Forget a worker; its tasks are dealt with by their disconnect policy after the grace time.

        Raises:
            WorkerNotFound.
        """
        worker = await self.get(worker_id)
        if not await self._store.remove_worker(worker_id):
            raise WorkerNotFound(worker_id)
        for held in await self._store.assignments(worker_id=worker_id):
            await self._store.extend(held.id, self._settings.disconnect_grace_ms)
        if self._observers.worker_disconnected:
            self._observers.worker_disconnected(worker=worker, reason=reason)
        self._audit.add(worker_id, "disconnected", reason=reason)
        self._news.worker_changed(worker_id)

    async def look_for_silent_ones(self, now: int) -> None:
        """Mark workers that have not been heard of as offline; forget those that are long gone."""
        for worker in await self._listed():
            silent_ms = now - worker.last_heartbeat_at
            if worker.status == "offline":
                if silent_ms > FORGET_MS and not worker.used_slots:
                    await self._store.remove_worker(worker.id)
            elif silent_ms > self._settings.heartbeat_timeout_ms:
                await self._look_at(worker, now)

    async def _look_at(self, worker: Worker, now: int) -> None:
        held = await self._store.assignments(worker_id=worker.id)
        signs = [each.lease_until - self._settings.lease_ms for each in held if each.confirmed]
        # Leases that are longer than that were not given for a sign of life: a marked task's, say.
        if any(abs(now - sign) <= self._settings.heartbeat_timeout_ms for sign in signs):
            return  # busy with what it has: its transitions and events are signs of life, too
        await self._store.put_worker(evolve(worker, status="offline"))
        self._audit.add(worker.id, "heartbeat_timeout")
        if self._observers.worker_disconnected:
            self._observers.worker_disconnected(worker=worker, reason="heartbeat_timeout")
        self._news.worker_changed(worker.id)


def check_capacity(capacity: int) -> None:
    """Raise InvalidInput if it is not positive."""
    if capacity <= 0:
        raise InvalidInput(f"Invalid capacity: {capacity}. Capacity must be a positive number.")


def shown(worker: Worker) -> Worker:
    """A worker with its status as it follows from its slots: busy when they are full."""
    if worker.status in ("idle", "busy"):
        return evolve(worker, status="busy" if worker.used_slots >= worker.capacity else "idle")
    return worker
