"""The cases of LongTermStore about cleanup: an archive is trimmed as its log is."""

from __future__ import annotations

from typing import ClassVar

import pytest

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts import LongTermStore, TrimRule
from taskcast_core.errors import EpochChanged, NotHot
from taskcast_core.models import EventDraft
from taskcast_core.testing.durable_logs import Durable, archived
from taskcast_core.testing.making import RICH_HISTORY, created, delta, fresh_id, latest, message, publish
from taskcast_core.testing.portrait import portrait

RULES = {
    "everything": TrimRule(keep_series_ends=False),
    "all but the ends of series": TrimRule(),
    "types": TrimRule(types=("log.*", "delta", "tool.call")),
    "levels": TrimRule(levels=("debug", "warn")),
    "modes": TrimRule(series_modes=("accumulate",)),
    "nothing": TrimRule(types=("no.such",)),
}


class ArchiveTrimCases(Durable):
    """``trim``."""

    promise: ClassVar[str] = "what cleanup removes from a log goes from its archive, and counts as before"

    @pytest.mark.parametrize("name", RULES)
    async def test_as_in_the_log(self, store: LongTermStore, hot: MemoryShortTermStore, name: str) -> None:
        stored = await created(hot, *RICH_HISTORY)
        task_id = stored.task.id
        await archived(store, hot, task_id)
        for limit in (2, 3, 100, 100):
            removed = await hot.trim(task_id, stored.epoch, RULES[name], limit)
            assert await store.trim(task_id, stored.epoch, RULES[name], limit) == removed
            assert await portrait(store, task_id) == await portrait(hot, task_id)

    async def test_by_age(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, message(), message())
        await archived(store, hot, stored.task.id)
        assert await store.trim(stored.task.id, stored.epoch, TrimRule(older_than=stored.last_timestamp)) == 0
        assert await store.trim(stored.task.id, stored.epoch, TrimRule(older_than=stored.last_timestamp + 1)) == 2

    async def test_a_series_that_loses_only_its_newest_entry(
        self, store: LongTermStore, hot: MemoryShortTermStore
    ) -> None:
        ending = EventDraft("end", "info", {"delta": "c"}, "s", "accumulate")
        stored = await created(hot, delta("s", "a"), delta("s", "b"), ending)
        await archived(store, hot, stored.task.id)
        rule = TrimRule(types=("end",), keep_series_ends=False)
        for log in (hot, store):
            assert await log.trim(stored.task.id, stored.epoch, rule) == 1
        assert await portrait(store, stored.task.id) == await portrait(hot, stored.task.id)

    async def test_the_archive_goes_on_behind_the_holes(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, *RICH_HISTORY)
        task_id = stored.task.id
        await archived(store, hot, task_id)
        for log in (hot, store):
            await log.trim(task_id, stored.epoch, TrimRule())
        await publish(hot, task_id, delta("answer", "!", "other"), latest("progress", 101), message())
        await archived(store, hot, task_id, after=stored.last_index)
        assert await portrait(store, task_id) == await portrait(hot, task_id)

    async def test_over_many_checkpoints(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, *[message(f"kind.{n % 3}", n) for n in range(2_500)])
        task_id = stored.task.id
        await archived(store, hot, task_id)
        for log in (hot, store):
            assert await log.trim(task_id, stored.epoch, TrimRule(types=("kind.1", "kind.2")), 1_500) == 1_500
        pages = [await log.read(task_id, limit=10_000) for log in (hot, store)]
        assert [one.last for one in pages] == [2_499, 2_499]
        assert await store.copy(task_id, 100) is not None

    async def test_other_epochs_and_other_tasks(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, message())
        await archived(store, hot, stored.task.id)
        with pytest.raises(EpochChanged):
            await store.trim(stored.task.id, stored.epoch + 1, TrimRule())
        with pytest.raises(NotHot):
            await store.trim(fresh_id(), 1, TrimRule())
