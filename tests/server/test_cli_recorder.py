"""The buffer between a program's output and the server."""

import asyncio
from typing import Any

import pytest

from taskcast_server.cli import recorder as module
from taskcast_server.cli.recorder import Recorder
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio


def events(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"n": number} for number in range(start, start + count)]


async def test_events_that_come_together_travel_together_and_in_order() -> None:
    batches: list[list[dict[str, Any]]] = []

    async def post(batch: list[dict[str, Any]]) -> None:
        batches.append(batch)

    recorder = Recorder(post)
    running = asyncio.create_task(recorder.run())
    for event in events(1200):
        await recorder.put(event, 10)
    recorder.close()
    await running
    assert [event for batch in batches for event in batch] == events(1200)
    assert len(batches) == 3
    assert max(map(len, batches)) == module.BATCH_EVENTS


async def test_a_lone_event_goes_out_by_itself() -> None:
    batches: list[list[dict[str, Any]]] = []

    async def post(batch: list[dict[str, Any]]) -> None:
        batches.append(batch)

    recorder = Recorder(post)
    running = asyncio.create_task(recorder.run())
    await recorder.put({"n": 1}, 1)
    await eventually(lambda: batches == [[{"n": 1}]])
    recorder.close()
    await running


async def test_a_full_buffer_makes_the_producer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 10)
    gate = asyncio.Event()
    posted: list[dict[str, Any]] = []

    async def post(batch: list[dict[str, Any]]) -> None:
        await gate.wait()
        posted.extend(batch)

    recorder = Recorder(post)
    running = asyncio.create_task(recorder.run())
    produced = 0

    async def produce() -> None:
        nonlocal produced
        for event in events(100):
            await recorder.put(event, 1)
            produced += 1

    producing = asyncio.create_task(produce())
    await eventually(lambda: produced >= 10)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(producing), 0.3)
    assert produced <= 20
    gate.set()
    await producing
    recorder.close()
    await running
    assert posted == events(100)


async def test_after_a_refusal_nobody_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 10)

    async def post(batch: list[dict[str, Any]]) -> None:
        raise OSError("refused")

    recorder = Recorder(post)
    running = asyncio.create_task(recorder.run())
    for event in events(100):
        await asyncio.wait_for(recorder.put(event, 1), 5)
    with pytest.raises(OSError, match="refused"):
        await running


async def test_large_texts_are_sent_in_bounded_batches() -> None:
    sizes: list[int] = []

    async def post(batch: list[dict[str, Any]]) -> None:
        sizes.append(len(batch))

    recorder = Recorder(post)
    running = asyncio.create_task(recorder.run())
    for event in events(64):
        await recorder.put(event, 64 << 10)
    recorder.close()
    await running
    assert sum(sizes) == 64
    assert max(sizes) <= 4
