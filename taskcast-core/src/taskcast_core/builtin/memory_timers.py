"""Timers in memory: per kind a heap of (due, task), entries that no longer hold are skipped when they surface."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from taskcast_core.clock import Clock
from taskcast_core.contracts.followers import Due
from taskcast_core.contracts.task_log import TimerKind


class TimerTable:
    """All timers of one store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timers: dict[str, Mapping[TimerKind, int]] = {}
        self._heaps: dict[TimerKind, list[tuple[int, str]]] = {}
        self._leases: dict[tuple[TimerKind, str], int] = {}

    def set(self, task_id: str, timers: Mapping[TimerKind, int]) -> None:
        """Replace the timers of a task; an empty mapping removes them."""
        before = self._timers.pop(task_id, {})
        if timers:
            self._timers[task_id] = timers
        for kind, due_at in timers.items():
            if before.get(kind) != due_at:
                self._leases.pop((kind, task_id), None)
                heapq.heappush(self._heaps.setdefault(kind, []), (due_at, task_id))
        for kind in before.keys() - timers.keys():
            self._leases.pop((kind, task_id), None)
        self._compact()

    def _holds(self, kind: TimerKind, due_at: int, task_id: str) -> bool:
        return self._timers.get(task_id, {}).get(kind) == due_at

    def _compact(self) -> None:
        """Rebuild a heap that is mostly stale, so that replaced timers do not pile up."""
        for kind, heap in self._heaps.items():
            if len(heap) > 64 and len(heap) > 4 * len(self._timers):
                live = {(timers[kind], task_id) for task_id, timers in self._timers.items() if kind in timers}
                self._heaps[kind] = sorted(live)

    def due(self, kind: TimerKind, limit: int, lease_ms: int) -> list[Due]:
        """See Deadlines.due."""
        now = self._clock.now_ms()
        heap = self._heaps.get(kind, [])
        found: dict[str, Due] = {}
        kept: list[tuple[int, str]] = []
        while heap and heap[0][0] <= now and len(found) < limit:
            due_at, task_id = heapq.heappop(heap)
            if task_id in found or not self._holds(kind, due_at, task_id):
                continue
            kept.append((due_at, task_id))
            if self._leases.get((kind, task_id), 0) <= now:
                self._leases[kind, task_id] = now + lease_ms
                found[task_id] = Due(task_id, kind, due_at)
        for item in kept:
            heapq.heappush(heap, item)
        return list(found.values())

    def next_due(self, kind: TimerKind) -> int | None:
        """See Deadlines.next_due."""
        heap = self._heaps.get(kind, [])
        while heap and not self._holds(kind, *heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None
