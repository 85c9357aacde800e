"""The text of a series on every store: cut anywhere, folded anywhere, and as dear at the end as at the beginning."""

from __future__ import annotations

import random
from typing import Any

import pytest

from taskcast_core import wire
from taskcast_core.engine import EngineSettings, TaskEngine
from taskcast_core.models import SubscribeFilter
from tests.bench.engine import series
from tests.core.conftest import OpenEngine
from tests.core.stores import STORES, AnyStore
from tests.core.test_series import cut, joined
from tests.fixtures.scale import FULL_SCALE, Scale

pytestmark = pytest.mark.anyio

ALPHABET = "ab \x00é\N{GRINNING FACE}\N{FAMILY}\u0301\ud83d\ude00"


@pytest.fixture
async def engine(open_engine: OpenEngine) -> TaskEngine:
    opened: TaskEngine = await open_engine(settings=EngineSettings(background=False))
    return opened


def parts(pieces: list[str]) -> list[dict[str, Any]]:
    base = {"type": "x", "level": "info", "seriesId": "s", "seriesMode": "accumulate"}
    return [{**base, "data": {"delta": one, "n": None}} for one in pieces]


async def test_fold_snapshot_and_text_are_one(engine: TaskEngine, store: AnyStore, scale: Scale) -> None:
    rng = random.Random(5)
    for _ in range(scale(15, 500)):
        text = joined("".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, 60))))
        pieces = cut(text, [rng.randrange(200) for _ in range(rng.randint(0, 30))])
        task = await engine.create_task()
        await engine.transition_task(task.id, "running")
        at = 0
        while at < len(pieces):
            size = rng.randint(1, 5)
            await engine.publish_events(task.id, parts(pieces[at : at + size]))
            at += size
        for index in range(len(pieces)):
            total = await store.fold(task.id, "s", index + 1)
            assert joined(wire.loads(wire.dumps(total))["delta"]) == joined("".join(pieces[: index + 1]))
        await engine.transition_task(task.id, "completed")
        shown = [event async for event in engine.subscribe(task.id, SubscribeFilter(types=("x",)))]
        assert [joined(event.data["delta"]) for event in shown] == ([text] if pieces else [])
        sent = [event.data["delta"] for event in await engine.get_history(task.id) if event.type == "x"]
        assert sent == pieces


async def test_a_commit_of_a_long_series_looks_at_nothing_long(engine: TaskEngine, store: AnyStore) -> None:
    """What a commit has to know of a series does not grow with it (the time that it takes is benchmarked)."""
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    sizes: list[int] = []
    for _ in range(5):
        await engine.publish_events(task.id, parts(["0123456789"] * 1000))
        page = await store.series(task.id)
        sizes.append(len(repr(page.states["s"])))
    assert max(sizes) - min(sizes) <= 10  # a few digits


@pytest.mark.skipif(not FULL_SCALE, reason="measures time")
@pytest.mark.parametrize("kind", STORES)
async def test_the_hundred_thousandth_delta_takes_the_time_of_the_first_thousand(kind: str) -> None:
    """One quiet measurement of five is enough: a cost that grew would show in all of them."""
    for _ in range(5):
        if await series(kind, 100_000) == 0:
            return
    pytest.fail("see what it printed")
