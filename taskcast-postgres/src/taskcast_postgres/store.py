"""The long-term store on PostgreSQL: every verb is one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from taskcast_core.contracts.followers import Due
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.contracts.log_reader import Page, SeriesPage
from taskcast_core.contracts.long_term import ArchiveBatch, Watermark
from taskcast_core.contracts.task_log import LogCopy, Stored, TimerKind, TrimRule
from taskcast_core.errors import StoreUnavailable
from taskcast_core.filters import View
from taskcast_core.models import WorkerAudit
from taskcast_postgres import keeping, listing, reader, trimming, writer
from taskcast_postgres.database import Database, Pool
from taskcast_postgres.diagnosis import diagnose
from taskcast_postgres.failures import BUSY, REFUSED
from taskcast_postgres.health import DEPENDENCY, Health
from taskcast_postgres.layout import Migrations
from taskcast_postgres.options import PostgresOptions

_TRIES = 4
"""A transaction that lost against others is repeated at most so often."""


class PostgresLongTermStore:
    """LongTermStore in one database; use it as an async context manager.

    Raises:
        LayoutError: (on entering) the tables are missing or of another release. StoreUnavailable: it is away.
    """

    def __init__(self, options: PostgresOptions, pool: Pool | None = None) -> None:
        self.options = options
        self.database = Database(options, pool)
        self.migrations = Migrations(self.database)
        self.migrated: Sequence[str] = ()
        """What ``auto_migrate`` has applied."""

    async def __aenter__(self) -> Self:
        await self.database.open()
        try:
            if self.options.auto_migrate:
                self.migrated = await self.migrations.apply()
            await self.migrations.check()
        except BaseException:
            await self.database.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.database.close()

    @property
    def health(self) -> Health:
        """How the last calls have gone."""
        return self.database.health

    async def check(self) -> None:
        """Ask for a sign of life.

        Raises:
            StoreUnavailable: there is none.
        """
        async with self.database.session() as session:
            await session.row("SELECT 1")

    def dependency_checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """For the readiness of a server: each raises StoreUnavailable while the dependency is away."""
        return {DEPENDENCY: self.check}

    async def diagnose(self) -> Mapping[str, Any]:
        """What this database is like, for people who look for trouble. Raises StoreUnavailable."""
        return await diagnose(self.database, self.migrations)

    # ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def write(self, batches: Sequence[ArchiveBatch]) -> Sequence[Watermark]:
        """See LongTermStore. An event that PostgreSQL refuses is set aside; a hole stands in its place."""
        if not batches:
            return []
        carefully = False
        for left in reversed(range(_TRIES)):
            try:
                async with self.database.transaction() as session:
                    return await writer.write(session, batches, carefully=carefully)
            except StoreUnavailable as error:
                is_refused = isinstance(error.__cause__, REFUSED) and not carefully
                if not left or not (is_refused or error.kind == BUSY):
                    raise
                carefully = carefully or is_refused
        raise AssertionError("the last try returns or raises")

    async def set_state(self, task_id: str, expected: Watermark, state: Literal["hot", "cold"]) -> bool:
        """See LongTermStore."""
        async with self.database.transaction() as session:
            return await keeping.set_state(session, task_id, expected, state)

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        """See LongTermStore."""
        async with self.database.transaction() as session:
            return await trimming.trim(session, task_id, epoch, rule, limit)

    async def delete(self, task_id: str, epoch: int) -> None:
        """See LongTermStore. The task is gone at once; its rows go piece by piece."""
        async with self.database.transaction() as session:
            await keeping.bury(session, task_id, epoch)
        has_more = True
        while has_more:
            async with self.database.transaction() as session:
                has_more = await keeping.remove_leftovers(session)

    async def write_audit(self, entries: Sequence[WorkerAudit]) -> None:
        """See LongTermStore."""
        async with self.database.transaction() as session:
            await keeping.write_audit(session, entries)

    # ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, task_id: str) -> Stored | None:
        """See LongTermStore."""
        async with self.database.session() as session:
            return await keeping.get(session, task_id)

    async def watermark(self, task_id: str) -> Watermark | None:
        """See LongTermStore."""
        async with self.database.session() as session:
            return await keeping.watermark(session, task_id)

    async def list(self, query: ListQuery) -> ListPage:
        """See LongTermStore."""
        async with self.database.session() as session:
            return await listing.tasks(session, query)

    async def copy(self, task_id: str, keep_last: int) -> LogCopy | None:
        """See LongTermStore."""
        async with self.database.snapshot() as session:
            return await reader.copy(session, task_id, keep_last)

    async def due(self, kind: TimerKind, limit: int) -> Sequence[Due]:
        """See LongTermStore."""
        async with self.database.session() as session:
            return await keeping.due(session, kind, limit)

    async def read_audit(self, worker_id: str, limit: int, before: str | None = None) -> Sequence[WorkerAudit]:
        """See LongTermStore."""
        async with self.database.session() as session:
            return await keeping.read_audit(session, worker_id, limit, before)

    async def read(
        self,
        task_id: str,
        *,
        epoch: int | None = None,
        after: int = -1,
        before: int | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Page:
        """See LogReader."""
        async with self.database.snapshot() as session:
            return await reader.read(session, task_id, epoch, after, before, limit, reverse=reverse)

    async def series(self, task_id: str, *, epoch: int | None = None) -> SeriesPage:
        """See LogReader."""
        async with self.database.snapshot() as session:
            return await reader.series(session, task_id, epoch)

    async def fold(self, task_id: str, series_id: str, index: int, *, epoch: int | None = None) -> Any:
        """See LogReader."""
        async with self.database.snapshot() as session:
            return await reader.fold(session, task_id, series_id, index, epoch)

    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        async with self.database.snapshot() as session:
            return await reader.count(session, task_id, view, before, epoch)

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        async with self.database.snapshot() as session:
            return await reader.seek(session, task_id, view, position, epoch)

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        async with self.database.snapshot() as session:
            return await reader.seek_time(session, task_id, timestamp, epoch)

    async def locate(self, task_id: str, event_id: str, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        async with self.database.snapshot() as session:
            return await reader.locate(session, task_id, event_id, epoch)
