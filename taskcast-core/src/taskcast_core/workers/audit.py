"""The workers' audit log: written to the long-term store in the background, so that no claim waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.errors import StoreUnavailable
from taskcast_core.ids import new_ulid
from taskcast_core.models import JsonObject, WorkerAudit

_log = logging.getLogger(__name__)

_WAITING = 10_000  # entries that wait for the store, the oldest are dropped
_BATCH = 500
_RHYTHM_S = 0.05


class AuditLog:
    """What workers did and what was done to them, if there is a long-term store to keep it."""

    def __init__(self, cold: LongTermStore | None, now_ms: Callable[[], int]) -> None:
        self._cold, self._now_ms = cold, now_ms
        self._waiting: deque[WorkerAudit] = deque()
        self._begun = asyncio.Event()
        self._newest_id_ms = 0

    def add(self, worker_id: str, action: str, **data: object) -> None:
        """Note an action (wire spec, workers section 8)."""
        if self._cold is None:
            return
        now = self._now_ms()
        # Entries are read in the order of their ids, which is random within a millisecond.
        self._newest_id_ms = max(now, self._newest_id_ms + 1)
        details: JsonObject | None = dict(data) or None
        self._waiting.append(WorkerAudit(new_ulid(self._newest_id_ms), worker_id, now, action, details))
        if len(self._waiting) > _WAITING:
            self._waiting.popleft()
        self._begun.set()

    async def read(self, worker_id: str, limit: int, before: str | None = None) -> Sequence[WorkerAudit]:
        """A worker's entries, newest first; none where nothing keeps them.

        Raises:
            StoreUnavailable.
        """
        if self._cold is None:
            return ()
        await self.flush()
        return await self._cold.read_audit(worker_id, limit, before)

    async def run(self) -> None:
        """Write for ever what has been noted; an unavailable store delays."""
        while True:
            await self._begun.wait()
            await asyncio.sleep(_RHYTHM_S)
            try:
                await self.flush()
            except StoreUnavailable as error:
                _log.info("%d entries of the worker audit log wait: %s", len(self._waiting), error)
                await asyncio.sleep(1)

    async def flush(self) -> None:
        """Write what waits; the same entry twice is one entry, so that callers need not take turns.

        Raises:
            StoreUnavailable: what could not be written waits on.
        """
        while self._cold is not None and self._waiting:
            batch = [self._waiting[at] for at in range(min(_BATCH, len(self._waiting)))]
            await self._cold.write_audit(batch)
            written = {entry.id for entry in batch}
            while self._waiting and self._waiting[0].id in written:
                self._waiting.popleft()
        self._begun.clear()
