"""The ``archive`` follower: every log, in bounded pages, into the long-term store.

It is also who finds out that the two copies contradict each other (the hot store was rewound, or came up with an older
state), and who lets go of what the hot store need not hold any longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from taskcast_core.archive import ArchiveSettings, in_new_epoch
from taskcast_core.backoff import delay_s
from taskcast_core.contracts.cold import Cold
from taskcast_core.contracts.followers import Dirty, FollowerKind
from taskcast_core.contracts.long_term import ArchiveBatch, LongTermStore, Refusal, Watermark
from taskcast_core.contracts.task_log import Held, SeriesCopy, Stored, TaskLog
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import EpochChanged, StorageIntegrityError, StoreUnavailable
from taskcast_core.followers import Host, Progress
from taskcast_core.instruments import Tracer
from taskcast_core.log_events import tell_storage
from taskcast_core.observers import Observers

_log = logging.getLogger(__name__)

GROUP = 64
"""Batches that travel to the long-term store in one transaction, at most."""
SHED = 2_000
"""Entries that the hot store lets go of in one step, at most."""
DISAGREEMENT_S = 60.0
"""So long is a log left alone that contradicts its archive where nothing can be done about it by itself."""
LARGE = 65_536
"""Each time that a task's log has grown by so many entries, a line says so."""
LINKED = 32
"""Tasks whose creators' traces the span of one transaction is linked to, at most."""
_NOWHERE = 1 << 40
"""An index behind any log: nothing is cut."""


class Archiver:
    """Copies what is new. What several lanes want to write at one time is one transaction.

    ``hot``: the hot store if it can take copies in and let entries go; None: it cannot.
    """

    kind: FollowerKind = "archive"

    def __init__(
        self, log: TaskLog, cold: LongTermStore, hot: Cold | None = None, settings: ArchiveSettings | None = None
    ) -> None:
        self._log, self._cold, self._hot = log, cold, hot
        self._settings = settings or ArchiveSettings()
        self._queue: list[tuple[ArchiveBatch, asyncio.Future[Watermark]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._tracer: Tracer | None = None
        self._observers: Observers | None = None

    def attach(self, host: Host) -> None:
        """See Handler."""
        self._tracer, self._observers = host.instruments.tracer, host.observers

    async def handle(self, dirty: Dirty, stored: Stored | None, items: Sequence[Entry | Hole]) -> Progress:
        """See Handler. A deleted task has been deleted from the long-term store, too: there is nothing to write."""
        last = _last_of(items[-1]) if items else dirty.cursor
        if stored is None:
            return Progress(last)
        series = await self._series(dirty, last) if any(isinstance(item, Hole) for item in items) else ()
        batch = ArchiveBatch(dirty.task_id, stored.record, stored.rev, stored.segments, tuple(items), series)
        try:
            mark = await self._write(batch)
            self._tell_refused(dirty, items, mark.refused)
            await self._check(dirty, stored, mark, last)
            await self._shed(dirty, stored)
            self._tell_size(dirty, stored, last)
        except StoreUnavailable as error:
            return self._later(dirty, delay_s(dirty.attempt + 1, first_s=0.5, most_s=5.0), error)
        except StorageIntegrityError as error:
            return await self._reconcile(dirty, items, error)
        return Progress(last)

    async def _series(self, dirty: Dirty, last: int) -> tuple[SeriesCopy, ...]:
        """The series as far as ``last``; what entries that are there do to them, the long-term store finds out."""
        states = (await self._log.series(dirty.task_id, epoch=dirty.epoch)).states
        return tuple(SeriesCopy(name, state) for name, state in states.items() if state.last_index <= last)

    async def _shed(self, dirty: Dirty, stored: Stored) -> None:
        """Keep the hot log short; what the lanes have not passed for good stays (a lane's place is kept by ``ack``)."""
        keep = self._settings.keep_hot
        if self._hot is None or keep is None:
            return
        excess = dirty.cursor + 1 - keep - stored.first_index
        if excess > keep // 2:
            await self._hot.shed(dirty.task_id, dirty.epoch, dirty.cursor + 1 - keep, min(excess, SHED))

    def _tell_size(self, dirty: Dirty, stored: Stored, last: int) -> None:
        """A hot task has grown large, and large again."""
        if (dirty.cursor + 1) // LARGE != (last + 1) // LARGE:
            age_ms = self._log.now_ms() - stored.task.created_at
            tell_storage("storage_hot_task", taskId=dirty.task_id, events=last + 1, ageMs=age_ms)

    def _later(self, dirty: Dirty, wait_s: float, error: Exception) -> Progress:
        _log.warning("archiving %s waits: %s", dirty.task_id, error)
        return Progress(dirty.cursor, dirty.attempt + 1, self._log.now_ms() + round(wait_s * 1000))

    # ── Disagreement ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _check(self, dirty: Dirty, stored: Stored, mark: Watermark, last: int) -> None:
        """Compare what the archive has now with the hot log, which can only be further on.

        Raises:
            StorageIntegrityError: it is not. EpochChanged: the log goes on in another epoch.
        """
        if not mark.rev:
            # A tombstone keeps this epoch out: the id was deleted, and is in use again.
            await self._log.found_epoch(dirty.task_id, dirty.epoch, _NOWHERE)
            raise EpochChanged(dirty.task_id, dirty.epoch + 1)
        if mark.state == "cold":
            # Somebody began to release the task, and did not end.
            await self._cold.set_state(dirty.task_id, mark, "hot")
        if _is_ahead(mark, stored) or mark.last_index > last:
            now = await self._log.get(dirty.task_id)
            if now is not None and _is_ahead(mark, now):
                raise StorageIntegrityError(f"{dirty.task_id}: the archive is ahead of the hot log")

    async def _reconcile(self, dirty: Dirty, items: Sequence[Entry | Hole], found: StorageIntegrityError) -> Progress:
        """Make one log of two: the longer of the durable prefix and of the hot one that agrees with it goes on.

        An archive that came back older than it was is filled from the hot log again. A hot log that was lost and grew
        anew gives way: it goes on from the durable copy, in an epoch that is later than both. What it had beyond the
        part that agrees stands at indexes that have been given to other events; its ids become unknown, so that
        whoever read them is told.
        """
        stored = await self._log.get(dirty.task_id)
        if stored is None or stored.epoch != dirty.epoch:
            raise EpochChanged(dirty.task_id, dirty.epoch)
        mark = await self._cold.watermark(dirty.task_id)
        last = mark.last_index if mark is not None else -1
        if last < dirty.cursor and await self._agrees(dirty.task_id, last):
            if stored.first_index > last + 1:
                return self._later(dirty, DISAGREEMENT_S, found)  # nobody has what was in between
            tell_storage(
                "storage_watermark_mismatch", logging.WARNING, taskId=dirty.task_id, hotLastIndex=stored.last_index,
                archiveLastIndex=last, reason=str(found), outcome="the archive is filled from there on",
            )  # fmt: skip
            return Progress(last, 0, self._log.now_ms())
        copy = await self._cold.copy(dirty.task_id, self._settings.keep_last)
        if self._hot is None or copy is None:
            return self._later(dirty, DISAGREEMENT_S, found)
        renewed = in_new_epoch(copy, beyond=stored.epoch)
        if await self._hot.replace(dirty.task_id, stored.epoch, renewed) is not None:
            tell_storage(
                "storage_watermark_mismatch", logging.ERROR, taskId=dirty.task_id, hotLastIndex=stored.last_index,
                archiveLastIndex=copy.last_index, reason=str(found), outcome="the hot log gives way to its archive",
            )  # fmt: skip
            await self._tell_lost(dirty, items)
        raise EpochChanged(dirty.task_id, renewed.segments[-1].epoch)

    async def _tell_lost(self, dirty: Dirty, items: Sequence[Entry | Hole]) -> None:
        """Of a hot log that has given way: what of the page at hand nobody has any more."""
        if not items:
            return
        first, last = _first_of(items[0]), _last_of(items[-1])
        page = await self._cold.read(dirty.task_id, after=first - 1, before=last + 1, limit=last + 1 - first)
        kept = {item.index: item.id for item in page.items if isinstance(item, Entry)}
        for item in items:
            if isinstance(item, Entry) and kept.get(item.index) != item.id:
                self._tell_dropped(item, "the hot log gave way to its archive")

    def _tell_refused(self, dirty: Dirty, items: Sequence[Entry | Hole], refused: Sequence[Refusal]) -> None:
        if not refused:
            return
        entries = {item.index: item for item in items if isinstance(item, Entry)}
        for each in refused:
            tell_storage(
                "storage_event_refused", logging.WARNING, taskId=dirty.task_id, index=each.index, reason=each.reason
            )
            if each.index in entries:
                self._tell_dropped(entries[each.index], f"the long-term store refuses it: {each.reason}")

    def _tell_dropped(self, entry: Entry, reason: str) -> None:
        if self._observers is not None and self._observers.event_dropped is not None:
            self._observers.event_dropped(event=entry.event(), reason=reason)

    async def _agrees(self, task_id: str, index: int) -> bool:
        """Whether both copies have the same event at an index, as far as both have one there."""
        if index < 0:
            return True
        (head,) = await self._log.heads([Held(task_id, index)])
        page = await self._cold.read(task_id, after=index - 1, before=index + 1, limit=1)
        there = page.items[0] if page.items else None
        is_known = head is not None and head.id_at is not None and isinstance(there, Entry)
        return not is_known or (isinstance(there, Entry) and head is not None and head.id_at == there.id)

    # ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, batch: ArchiveBatch) -> Watermark:
        done: asyncio.Future[Watermark] = asyncio.get_running_loop().create_future()
        self._queue.append((batch, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        while self._queue:
            group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
            try:
                marks = await self._written([batch for batch, _ in group])
            except Exception:  # noqa: BLE001 - each batch is tried alone, so that only the guilty one fails
                for batch, done in group:
                    await self._write_alone(batch, done)
            else:
                for mark, (_, done) in zip(marks, group, strict=True):
                    _settle(done, mark)

    async def _written(self, batches: Sequence[ArchiveBatch]) -> Sequence[Watermark]:
        """One transaction."""
        if self._tracer is None:
            return await self._cold.write(batches)
        entries = sum(len(batch.items) for batch in batches)
        with self._tracer.span("taskcast.archive", batches=len(batches), entries=entries) as span:
            for batch in batches[:LINKED]:
                span.link(batch.record.task.traceparent)
            return await self._cold.write(batches)

    async def _write_alone(self, batch: ArchiveBatch, done: asyncio.Future[Watermark]) -> None:
        try:
            (mark,) = await self._written([batch])
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for this batch
            if not done.done():
                done.set_exception(error)
        else:
            _settle(done, mark)


def _is_ahead(mark: Watermark, stored: Stored) -> bool:
    return (mark.epoch, mark.rev) > (stored.epoch, stored.rev) or mark.last_index > stored.last_index


def _settle(done: asyncio.Future[Watermark], mark: Watermark) -> None:
    if not done.done():  # whoever waited may have been cancelled
        done.set_result(mark)


def _first_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.first


def _last_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.last
