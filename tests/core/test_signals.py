"""Signals in an embedded engine."""

import pytest

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, SubscribeFilter, TaskEngine
from taskcast_core.errors import IdempotencyConflict, InvalidInput, TaskEnded, TaskNotFound
from taskcast_core.signals import SIGNAL_TYPE, SignalInput

pytestmark = pytest.mark.anyio


async def test_a_signal_is_an_event_once_per_id() -> None:
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as engine:
        task = await engine.create_task()
        first = await engine.signal(task.id, type="stop", data={"now": True}, id="one")
        assert (first.type, first.level, first.data) == (
            SIGNAL_TYPE, "info", {"id": "one", "type": "stop", "data": {"now": True}},
        )  # fmt: skip
        assert await engine.signal(task.id, SignalInput("stop", {"now": True}, "one")) == first
        with pytest.raises(IdempotencyConflict):
            await engine.signal(task.id, {"type": "go", "id": "one"})
        second, third = [await engine.signal(task.id, type="stop") for _ in range(2)]
        assert second.data["id"] != third.data["id"]
        for wrong in ({"type": "x", "id": ""}, {"type": 1}, {}):
            with pytest.raises(InvalidInput):
                await engine.signal(task.id, wrong)
        with pytest.raises(TypeError):
            await engine.signal(task.id, kind="x")
        await engine.transition_task(task.id, "cancelled")
        with pytest.raises(TaskEnded):
            await engine.signal(task.id, type="stop")
        with pytest.raises(TaskNotFound):
            await engine.signal("nobody", type="stop")
        wanted = SubscribeFilter(types=(SIGNAL_TYPE,), include_status=False)
        seen = [each.index async for each in engine.subscribe(task.id, wanted)]
        assert len(seen) == 3
