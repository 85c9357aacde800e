"""From a configuration to a running engine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from taskcast_core import open_engine
from taskcast_core.assembly import HOT_CONTRACTS, check_contracts, verbs_of
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.errors import ConfigError, PluginError, TaskcastError

pytestmark = pytest.mark.anyio


def written(directory: Path, text: str, name: str = "taskcast.config.yaml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


async def lives(engine: Any) -> None:
    task = await engine.create_task(type="a")
    await engine.transition_task(task.id, "running")
    await engine.publish_event(task.id, type="x", data=1)
    await engine.transition_task(task.id, "completed")
    assert [event.index async for event in engine.subscribe(task.id)] == [0, 1, 2]


async def test_memory_is_the_default(tmp_path: Path) -> None:
    async with open_engine(written(tmp_path, "{}\n")) as engine:
        assert isinstance(engine.store, MemoryShortTermStore)
        assert isinstance(engine.broadcast, MemoryBroadcastProvider)
        assert engine.long_term_store is None
        await lives(engine)


async def test_sqlite_keeps_its_file_beside_the_configuration(tmp_path: Path) -> None:
    config = "adapters:\n  shortTermStore: {provider: sqlite, path: data.db, synchronous: NORMAL}\n"
    path = written(tmp_path, config)
    for _ in range(2):
        async with open_engine(path) as engine:
            assert isinstance(engine.store, SqliteShortTermStore)
            await lives(engine)
            count = len((await engine.list_tasks()).tasks)
    assert (tmp_path / "data.db").exists()
    assert count == 2


async def test_settings_reach_the_engine(tmp_path: Path) -> None:
    config = (
        "limits: {maxEventsPerTask: 7}\n"
        "cleanup: {rules: [{target: events, trigger: {afterMs: 5}}], keepEndedSeconds: 60}\n"
        "storageLifecycle: {ttlSweepIntervalSeconds: 2, ttlSweepBatchSize: 3}\n"
    )
    async with open_engine(written(tmp_path, config)) as engine:
        settings = engine.settings
        assert settings.limits.max_events == 7
        assert (settings.sweep.interval_s, settings.sweep.batch) == (2, 3)
        assert settings.retention.keep_ended_ms == 60_000
        assert settings.retention.rules[0].target == "events"


async def test_live_objects_of_a_python_file(tmp_path: Path) -> None:
    config = """
from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore

class Seen:
    def __init__(self):
        self.created = []
    def task_created(self, task):
        self.created.append(task.id)

store, broadcast, seen = MemoryShortTermStore(), MemoryBroadcastProvider(), Seen()
config = {"adapters": {"shortTermStore": store, "broadcast": broadcast}, "hooks": [seen]}
"""
    async with open_engine(written(tmp_path, config, "taskcast.config.py")) as engine:
        assert isinstance(engine.store, MemoryShortTermStore)
        await lives(engine)
        assert engine.observers.task_created is not None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("adapters: {shortTermStore: {provider: rediss}}", ["rediss", "adapters.shortTermStore", "memory", "sqlite"]),
        ("adapters: {shortTermStore: {provider: sqlite, pth: x}}", ["pth", "adapters.shortTermStore"]),
        ("adapters: {shortTermStore: {provider: sqlite, synchronous: MAYBE}}", ["synchronous", "FULL"]),
        ("plugins: []\nadapters: {shortTermStore: {provider: redis}}", ["redis", "adapters.shortTermStore"]),
    ],
)
async def test_what_cannot_be_is_one_clear_error(tmp_path: Path, config: str, said: list[str]) -> None:
    with pytest.raises((ConfigError, PluginError)) as refused:
        async with open_engine(written(tmp_path, config)):
            pass
    for words in said:
        assert words in str(refused.value)


async def test_a_store_that_lacks_verbs_is_refused() -> None:
    class Half:
        is_shared = False
        durability = "none"

        async def get(self, task_id: str) -> None:
            return None

    with pytest.raises(PluginError) as refused:
        check_contracts(Half())
    for words in ("Half", "commit", "TaskLog"):
        assert words in str(refused.value)
    check_contracts(MemoryShortTermStore())
    assert {"read", "commit", "is_shared"} <= set(verbs_of(HOT_CONTRACTS[0]))


SHARED = """
from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore

class SharedStore(MemoryShortTermStore):
    is_shared = True

config = {"adapters": {"shortTermStore": SharedStore(), "broadcast": MemoryBroadcastProvider()}}
"""


async def test_a_shared_store_with_a_memory_broadcast_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with open_engine(written(tmp_path, SHARED, "taskcast.config.py")):
            pass
    assert "the broadcast is not" in caplog.text
    caplog.clear()
    async with open_engine(written(tmp_path, "{}\n")):
        pass
    assert "broadcast" not in caplog.text


async def test_what_was_opened_is_closed_also_after_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "adapters: {shortTermStore: {provider: sqlite, path: data.db}}")
    with pytest.raises(RuntimeError, match="mine"):
        async with open_engine(path):
            raise RuntimeError("mine")
    async with open_engine(path) as engine:  # the file is free again
        await lives(engine)
        with pytest.raises(TaskcastError):
            async with open_engine(path):
                pass
