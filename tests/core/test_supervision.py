"""What fails in the background and is expected by nobody: it is told, with its task, and the work goes on."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.contracts.followers import Dirty, FollowerKind
from taskcast_core.contracts.task_log import Stored
from taskcast_core.deadlines import SweepSettings
from taskcast_core.entries import Entry, Hole
from taskcast_core.followers import Host, Progress
from taskcast_core.hub import HubSettings
from taskcast_core.settings import EngineSettings
from taskcast_core.workers import WorkerSettings
from tests.core.wrapping import WrappedStore
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio


class Observer:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str | None]] = []

    async def unhandled_error(self, error: Exception, operation: str, task_id: str | None) -> None:
        self.told.append((type(error).__name__, operation, task_id))


class Fails:
    """Wraps a verb that breaks the first time."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, real: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise KeyError("nobody expected this")
        return await real()


class Follows:
    """A handler that may trip over its first task."""

    kind: FollowerKind = "archive"

    def __init__(self, *, trips: bool = False) -> None:
        self.trips = trips
        self.seen: list[str] = []

    def attach(self, host: Host) -> None:
        pass

    async def handle(self, dirty: Dirty, stored: Stored | None, items: Sequence[Entry | Hole]) -> Progress:
        self.seen.append(dirty.task_id)
        if self.trips and len(self.seen) == 1:
            raise KeyError("nobody expected this")
        return Progress(items[-1].index if items else dirty.cursor)


@asynccontextmanager
async def opened(observer: Observer, handlers: Sequence[Follows] = (), **around: Fails) -> AsyncIterator[TaskEngine]:
    settings = EngineSettings(
        workers=WorkerSettings(enabled=True),
        hub=HubSettings(check_interval_s=0.05),
        sweep=SweepSettings(interval_s=0.05),
    )
    async with MemoryShortTermStore() as store:
        engine = TaskEngine(
            broadcast=MemoryBroadcastProvider(), short_term_store=WrappedStore(store, **around), handlers=handlers,
            hooks=observer, settings=settings,
        )  # fmt: skip
        async with engine:
            yield engine


@pytest.mark.parametrize(
    ("verb", "operation"),
    [
        ("due", "timers"),
        ("claim_dirty", "archive follower"),
        ("expired", "worker leases"),
        ("queue", "pulls"),
        ("heads", "check of heads"),
    ],
)
async def test_a_loop_that_breaks_is_told_of_and_begins_again(
    verb: str, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    observer, broken = Observer(), Fails()
    with caplog.at_level(logging.CRITICAL, "taskcast_core"):
        async with opened(observer, [Follows()], **{verb: broken}) as engine:
            task = await engine.create_task(assign_mode="pull")
            unsubscribe = engine.subscribe(task.id, on_event=lambda event: None)
            if verb == "queue":
                assert engine.workers is not None
                assert await engine.workers.pull("w", 20)
            await eventually(lambda: broken.calls > 1 and bool(observer.told), within_s=20)
            unsubscribe()
    assert observer.told == [("KeyError", operation, None)]


async def test_what_breaks_over_a_task_names_it_in_the_hook_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    observer, handler = Observer(), Follows(trips=True)
    async with opened(observer, [handler]) as engine:
        first = await engine.create_task()
        await engine.publish_event(first.id, type="x", level="info")
        await eventually(lambda: bool(observer.told), within_s=20)
        second = await engine.create_task()
        await engine.publish_event(second.id, type="x", level="info")
        await eventually(lambda: second.id in handler.seen, within_s=20)
    assert observer.told == [("KeyError", "lane archive", handler.seen[0])]
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.__dict__["event"] == "unhandled_error"
    assert record.__dict__["facts"] == {"operation": "lane archive", "taskId": handler.seen[0]}
