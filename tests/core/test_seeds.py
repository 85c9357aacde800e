"""The embedded examples of the first documents, line by line, in Python.

Each test quotes the example that it ports.
"""

from __future__ import annotations

from typing import Any

import pytest

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.models import Event, TaskStatus
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio


async def test_embedded_mode_create_publish_complete() -> None:
    """The example, in TypeScript.

    import { TaskEngine, MemoryBroadcastProvider, MemoryShortTermStore } from '@taskcast/core'

    const engine = new TaskEngine({
      broadcast: new MemoryBroadcastProvider(),
      shortTermStore: new MemoryShortTermStore(),
    })
    const task = await engine.createTask({
      type: 'llm.chat',
      params: { prompt: '给我讲个故事' },
      ttl: 3600,
    })
    await engine.transitionTask(task.id, 'running')
    await engine.publishEvent(task.id, {
      type: 'llm.delta',
      level: 'info',
      data: { text: '从前有座山...' },
      seriesId: 'response',
      seriesMode: 'accumulate',
    })
    await engine.transitionTask(task.id, 'completed', {
      result: { output: '从前有座山... 完。' },
    })
    """
    engine = TaskEngine(
        broadcast=MemoryBroadcastProvider(),
        short_term_store=MemoryShortTermStore(),
    )
    async with engine:
        task = await engine.create_task(
            type="llm.chat",
            params={"prompt": "给我讲个故事"},
            ttl=3600,
        )
        await engine.transition_task(task.id, "running")
        await engine.publish_event(
            task.id,
            type="llm.delta",
            level="info",
            data={"text": "从前有座山..."},
            series_id="response",
            series_mode="accumulate",
        )
        await engine.transition_task(
            task.id,
            "completed",
            result={"output": "从前有座山... 完。"},
        )
        done = await engine.get_task(task.id)
        assert done is not None and (done.status, done.result) == ("completed", {"output": "从前有座山... 完。"})
        events = [event async for event in engine.subscribe(task.id)]
        assert [event.type for event in events] == ["taskcast:status", "llm.delta", "taskcast:status"]
        assert (events[1].data, events[1].series_acc_field) == ({"text": "从前有座山..."}, "text")


async def test_the_same_objects_as_in_javascript() -> None:
    """The wire's names work, too: an example can be pasted as it is."""
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as engine:
        task = await engine.create_task({"type": "llm.chat", "params": {"prompt": "hi"}, "ttl": 3600})
        await engine.transition_task(task.id, "running")
        for text in ("once ", "upon ", "a time"):
            await engine.publish_event(
                task.id,
                {
                    "type": "llm.delta",
                    "level": "info",
                    "data": {"text": text},
                    "seriesId": "response",
                    "seriesMode": "accumulate",
                },
            )
        await engine.transition_task(task.id, "completed", {"result": {"output": "done"}})
        (snapshot,) = [event async for event in engine.subscribe(task.id, {"types": ["llm.*"]})]
        assert (snapshot.data, snapshot.series_snapshot) == ({"text": "once upon a time"}, True)


async def test_subscribing_with_callbacks() -> None:
    """The example, in TypeScript.

    await client.subscribe(taskId, {
      filter: { types: ['llm.*'], since: { index: 0 } },
      onEvent: (envelope) => { console.log(envelope.data) },
      onDone: (reason) => { console.log(`任务 ${reason}`) },
    })
    """
    seen: list[Event] = []
    ended: list[TaskStatus] = []
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as engine:
        task = await engine.create_task(type="llm.chat")
        await engine.transition_task(task.id, "running")
        await engine.publish_events(task.id, [{"type": "llm.delta", "data": {"text": str(n)}} for n in range(3)])
        handle = engine.subscribe(
            task.id,
            {"types": ["llm.*"], "since": {"index": 0}},
            on_event=seen.append,
            on_done=ended.append,
        )
        await engine.transition_task(task.id, "completed")
        await handle.wait()
    assert [event.data for event in seen] == [{"text": "1"}, {"text": "2"}]
    assert ended == ["completed"]


async def test_hooks() -> None:
    """The example, in TypeScript.

    const hooks = createSentryHooks({ captureTaskFailures: true, captureTaskTimeouts: true })
    const engine = new TaskEngine({ broadcast, shortTermStore: shortTerm, hooks })
    """

    class Hooks:
        def __init__(self) -> None:
            self.calls: list[tuple[Any, ...]] = []

        def task_created(self, task: Any) -> None:
            self.calls.append(("created", task.type))

        async def task_failed(self, task: Any, error: Any) -> None:
            self.calls.append(("failed", error.message))

        def task_timed_out(self, task: Any) -> None:
            self.calls.append(("timed out", task.status))

    hooks = Hooks()
    engine = TaskEngine(
        broadcast=MemoryBroadcastProvider(),
        short_term_store=MemoryShortTermStore(),
        hooks=hooks,
    )
    async with engine:
        failing = await engine.create_task(type="a")
        await engine.transition_task(failing.id, "running")
        await engine.transition_task(failing.id, "failed", error={"message": "no", "code": "E"})
        late = await engine.create_task(type="b", ttl=1)
        await engine.transition_task(late.id, "timeout")
        wanted = [("created", "a"), ("failed", "no"), ("created", "b"), ("timed out", "timeout")]
        await eventually(lambda: hooks.calls == wanted)
