"""An engine over a hot store and a long-term one, and what tests of both do all the time."""

from __future__ import annotations

import asyncio
from typing import Any

from taskcast_core import Event, MemoryBroadcastProvider, TaskEngine
from taskcast_core.archive import ArchiveSettings
from taskcast_core.contracts import Broadcast, LongTermStore, Stored
from taskcast_core.contracts.hot_store import ColdCapableStore
from taskcast_core.followers import FollowerSettings
from taskcast_core.settings import EngineSettings
from tests.fixtures.eventually import eventually

SETTINGS = EngineSettings(
    archive=ArchiveSettings(page=50, keep_last=3), follower=FollowerSettings(lease_ms=1_000, poll_s=0.1)
)

FILTERS: list[dict[str, Any]] = [
    {}, {"types": ["log"]}, {"seriesFormat": "accumulated"}, {"limit": 4}, {"types": ["delta", "progress"]},
]  # fmt: skip


class Tiers:
    """An engine with its two stores at hand; the caller enters ``engine``."""

    def __init__(
        self,
        hot: ColdCapableStore,
        cold: LongTermStore,
        broadcast: Broadcast | None = None,
        settings: EngineSettings = SETTINGS,
    ) -> None:
        self.hot, self.cold = hot, cold
        self.broadcast = broadcast or MemoryBroadcastProvider()
        self.settings = settings
        self.engine = self.another()

    def another(self, **fields: Any) -> TaskEngine:
        """One more engine over the same stores, or over others."""
        given = {
            "broadcast": self.broadcast,
            "short_term_store": self.hot,
            "long_term_store": self.cold,
            "settings": self.settings,
        }
        return TaskEngine(**given | fields)

    async def existing(self, task_id: str) -> Stored:
        """The hot copy."""
        stored = await self.hot.get(task_id)
        assert stored is not None
        return stored

    async def archived(self, task_id: str, within_s: float = 20) -> None:
        """Wait until the long-term store has everything."""

        async def has_all() -> bool:
            return await self.hot.has_passed(task_id)

        await eventually(has_all, within_s)

    async def release(self, task_id: str) -> None:
        """Move a task to the cold store."""
        await self.archived(task_id)
        stored = await self.existing(task_id)
        assert (await self.engine.release_task(task_id, stored.last_index, self.engine.now_ms())).released
        assert await self.hot.get(task_id) is None


async def chatty(engine: TaskEngine, rounds: int = 6, **fields: Any) -> str:
    """A running task with two series and plain events: three events a round, behind the one of its start."""
    task = await engine.create_task(type="llm.chat", **fields)
    await engine.transition_task(task.id, "running")
    await chat(engine, task.id, rounds)
    return task.id


async def chat(engine: TaskEngine, task_id: str, rounds: int, first: int = 0) -> None:
    """Some more rounds of such a task."""
    for n in range(first, first + rounds):
        await engine.publish_event(
            task_id, type="delta", data={"delta": f"{n}"}, series_id="s", series_mode="accumulate"
        )
        await engine.publish_event(task_id, type="log", data={"n": n})
        await engine.publish_event(task_id, type="progress", data={"n": n}, series_id="p", series_mode="latest")


async def read(engine: TaskEngine, task_id: str, **filter_: Any) -> list[Event]:
    """What a reader of an ended task gets."""
    async with asyncio.timeout(20):
        return [event async for event in engine.subscribe(task_id, filter_)]


def shown(events: list[Event]) -> list[tuple[Any, ...]]:
    """What does not depend on ids and times."""
    return [(e.index, e.type, e.data, e.series_id, e.series_mode, e.series_snapshot) for e in events]
