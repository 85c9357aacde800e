"""Publishing, subscribing, cutting and resuming at every instant around each other: no gap, no repeat, in order.

Each interleaving is made from its own seed; a failure names it, and ``TASKCAST_SEED`` repeats it.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.engine import TaskEngine
from taskcast_core.hub import HubSettings
from taskcast_core.models import Cursor, Event, SubscribeFilter
from taskcast_core.settings import EngineSettings
from tests.core.oracle import Client, Frame, Log, accumulates, frame_of, is_visible
from tests.core.stores import STORES, AnyStore, open_store
from tests.core.wrapping import BareBroadcast, UnreliableBroadcast
from tests.fixtures.scale import Scale

pytestmark = pytest.mark.anyio

AT_ONCE = 16
FIRST_SEED = 20_000

FILTERS = (
    SubscribeFilter(),
    SubscribeFilter(series_format="accumulated"),
    SubscribeFilter(types=("llm.*",)),
    SubscribeFilter(types=("llm.*", "tool"), series_format="accumulated"),
    SubscribeFilter(levels=("info",), include_status=False),
)


@define
class Reader:
    """One client that is cut now and then, and comes back behind the last frame that it has read."""

    engines: list[TaskEngine]
    task_id: str
    wanted: SubscribeFilter
    rng: random.Random
    frames: list[Frame] = field(factory=list)
    cuts: int = 0

    async def read(self) -> None:
        base = self.wanted
        while True:
            subscription = self.rng.choice(self.engines).subscribe(self.task_id, self.wanted)
            patience = self.rng.choice((1, 2, 5, 1000))
            async for batch in subscription.batches():
                for delivery in batch.deliveries:
                    self.frames.append(frame_of(delivery))
                    patience -= 1
                    if patience == 0:
                        break
                if patience == 0:
                    break
                await pause(self.rng)
            subscription.close()
            if subscription.status is not None and patience > 0:
                assert subscription.status == "completed"
                return
            assert self.cuts < 500
            if self.frames:
                self.cuts += 1
                self.wanted = evolve(base, since=self.cursor(), resume="snapshot")

    def cursor(self) -> Cursor:
        last = self.frames[-1]
        return self.rng.choice((Cursor(id=last.id), Cursor(index=last.position)))


async def pause(rng: random.Random) -> None:
    """A few turns of the loop, or a few milliseconds."""
    if rng.random() < 0.1:
        await asyncio.sleep(rng.random() * 0.004)
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        await asyncio.sleep(0)


async def publish(engines: list[TaskEngine], task_id: str, rng: random.Random) -> list[Event]:
    """A random story, told through random nodes: everything that was committed."""
    log: list[Event] = []
    texts = ("a", "", "é", "\N{GRINNING FACE}", "long " * 5)
    for n in range(rng.randint(3, 25)):
        drafts: list[dict[str, Any]] = []
        for _ in range(rng.choice((1, 1, 1, 2, 6))):
            kind = rng.random()
            level = rng.choice(("info", "debug"))
            if kind < 0.5:
                series = rng.choice("st")
                drafts.append({"type": "llm.delta", "level": "info", "data": {"delta": rng.choice(texts)},
                               "seriesId": series, "seriesMode": "accumulate"})  # fmt: skip
            elif kind < 0.6:
                drafts.append({"type": "tool", "level": level, "data": n, "seriesId": "p", "seriesMode": "latest"})
            else:
                drafts.append({"type": rng.choice(("tool", "llm.x", "y")), "level": level, "data": n})
        log += await rng.choice(engines).publish_events(task_id, drafts)
        await pause(rng)
    return log


async def interleave(store: AnyStore, seed: int) -> int:
    """One interleaving; how often its readers were cut."""
    rng = random.Random(seed)
    broadcast = rng.choice((
        MemoryBroadcastProvider, BareBroadcast, lambda: UnreliableBroadcast(rng, lost=rng.choice((0.1, 0.5, 1.0))),
    ))()  # fmt: skip
    settings = EngineSettings(
        background=False,
        hub=HubSettings(
            ring_entries=rng.choice((4, 16, 2048)),
            flush_interval_ms=rng.choice((0, 2)),
            check_interval_s=0.02,
        ),
    )
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(
                TaskEngine(broadcast=broadcast, short_term_store=store, settings=settings)  # type: ignore[arg-type]
            )
            for _ in range(rng.choice((1, 2)))
        ]
        task_id = (await engines[0].create_task()).id
        await engines[0].transition_task(task_id, "running")
        readers = [Reader(engines, task_id, rng.choice(FILTERS), random.Random(rng.random())) for _ in range(3)]

        async def arrive(reader: Reader) -> None:
            for _ in range(reader.rng.randint(0, 40)):
                await asyncio.sleep(0)
            await reader.read()

        reading = [asyncio.create_task(arrive(reader)) for reader in readers]
        events = await publish(engines, task_id, rng)
        await rng.choice(engines).transition_task(task_id, "completed")
        async with asyncio.timeout(20):
            await asyncio.gather(*reading)
        history = await engines[0].get_history(task_id)
        log = Log([history[0], *events, history[-1]])
        for reader in readers:
            check(log, reader)
        return sum(reader.cuts for reader in readers)


def check(log: Log, reader: Reader) -> None:
    """What a reader was shown, over all its connections, is the log."""
    assert [event.index for event in log.events] == list(range(len(log.events)))
    frames, wanted = reader.frames, reader.wanted
    assert all(frame.gap is None for frame in frames)
    assert all(a.index < b.index for a, b in pairwise(frames))
    shown = {frame.index: frame for frame in frames}
    visible = [event for event in log.events if is_visible(event, wanted)]
    position = {event.index: place for place, event in enumerate(visible)}
    optional = log.replaced()
    for event in visible:
        frame = shown.get(event.index)
        if frame is None:
            assert accumulates(event) or event.index in optional, f"{event} is missing"
        else:
            assert (frame.id, frame.position) == (event.id, position[event.index])
            is_total = accumulates(event) and (frame.is_snapshot or wanted.series_format == "accumulated")
            assert frame.data == (log.total(event) if is_total else event.data)
    assert shown.keys() <= position.keys()
    texts = Client.of(log, wanted).take(frames).texts
    series = {event.series_id for event in visible if accumulates(event)}
    assert texts == {one: log.text(one) for one in series if one is not None}


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(1800)
async def test_publish_and_subscribe_interleaved(kind: str, tmp_path: Path, scale: Scale) -> None:
    count = scale(320, 10_000) if kind == "memory" else scale(48, 5_000)
    first = int(os.environ.get("TASKCAST_SEED", FIRST_SEED))
    print(f"interleavings {first} … {first + count - 1} on {kind}")
    cuts = 0
    async with open_store(kind, tmp_path) as store:
        for start in range(first, first + count, AT_ONCE):
            seeds = range(start, min(start + AT_ONCE, first + count))
            outcomes = await asyncio.gather(*(interleave(store, seed) for seed in seeds), return_exceptions=True)
            for seed, outcome in zip(seeds, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    raise AssertionError(f"interleaving {seed} (TASKCAST_SEED={seed})") from outcome
                cuts += outcome
    assert cuts > count
