"""Engines on a hot store and PostgreSQL: archived, released, restored, through outages, restarts and losses."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from statistics import quantiles
from typing import Any, cast

import pytest
import redis
from attrs import evolve

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.archive import ArchiveSettings
from taskcast_core.contracts import ListQuery
from taskcast_core.followers import FollowerSettings
from taskcast_core.testing.portrait import portrait
from tests.core.tiers import FILTERS, SETTINGS, chat, chatty, read, shown
from tests.fixtures.eventually import eventually
from tests.fixtures.postgres_server import PostgresServer
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import Scale
from tests.postgres.tiers import PostgresTiers, open_tiers

pytestmark = pytest.mark.anyio


async def test_the_archive_is_the_log(tiers: PostgresTiers) -> None:
    task_id = await chatty(tiers.engine)
    await tiers.archived(task_id)
    assert await tiers.cold.get(task_id) == await tiers.hot.get(task_id)
    assert await portrait(tiers.cold, task_id) == await portrait(tiers.hot, task_id)


async def test_a_cold_task_reads_as_a_hot_one(tiers: PostgresTiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await engine.transition_task(task_id, "completed", result={"r": 1})
    history = await engine.get_history(task_id)

    async def everything() -> list[Any]:
        whole = [await read(engine, task_id, **filter_) for filter_ in FILTERS]
        resumed = [
            await read(engine, task_id, **filter_, since={"id": event.id})
            for filter_, events in zip(FILTERS, whole, strict=True)
            for event in events[::4]
        ]
        by_position = [await read(engine, task_id, **FILTERS[1], since={"index": n}) for n in range(6)]
        return [whole, resumed, by_position]

    hot = await everything()
    await tiers.release(task_id)
    assert await everything() == hot
    assert await engine.get_history(task_id) == history
    assert await tiers.hot.get(task_id) is None, "reading brings nothing back"


async def test_a_write_brings_a_task_back_and_readers_see_no_seam(tiers: PostgresTiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await tiers.release(task_id)
    resumed_from = (await engine.get_history(task_id))[1]
    await engine.publish_event(task_id, type="delta", data={"delta": "6"}, series_id="s", series_mode="accumulate")
    stored = await tiers.hot.get(task_id)
    assert stored is not None and stored.first_index > 0, "only the newest entries come back"
    later = asyncio.create_task(read(engine, task_id, since={"id": resumed_from.id}))
    await engine.transition_task(task_id, "completed")
    again = await later
    assert [e.data["delta"] for e in again if e.series_id == "s"] == [str(n) for n in range(1, 7)]
    indexes = [e.index for e in again]
    assert indexes == sorted(set(indexes))
    await tiers.release(task_id)
    totals = await read(engine, task_id, seriesFormat="accumulated")
    assert [e.data for e in totals if e.series_id == "s"] == [{"delta": "0123456"}]


async def test_deadlines_of_cold_tasks_fire(tiers: PostgresTiers) -> None:
    engine = tiers.engine
    task = await engine.create_task(ttl=1)
    await engine.transition_task(task.id, "running")
    await tiers.release(task.id)

    async def timed_out() -> bool:
        await engine.sweeper.sweep()
        found = await engine.get_task(task.id)
        return found is not None and found.status == "timeout"

    await eventually(timed_out, within_s=15)


async def test_lists_and_deletion_cover_both_tiers(tiers: PostgresTiers) -> None:
    engine = tiers.engine
    ids = [(await engine.create_task(id=f"t{n}", type="x")).id for n in range(5)]
    for task_id in ids[::2]:
        await tiers.release(task_id)
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await engine.list_tasks(ListQuery(types=("x",), limit=2, cursor=cursor))
        found += [task.id for task in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found) == ids and len(found) == 5
    await engine.delete_task("t0")
    assert await engine.get_task("t0") is None and await tiers.cold.get("t0") is None


async def test_a_lost_hot_tier_is_made_up_for(tmp_path: Path, postgres_url: str) -> None:
    """An empty file where the store was, as after FLUSHALL."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    async with open_tiers("sqlite", tmp_path / "first", postgres_url) as before:
        task_id = await chatty(before.engine)
        await before.archived(task_id)
        history = await before.engine.get_history(task_id)
    async with open_tiers("sqlite", tmp_path / "second", postgres_url) as after:
        assert await after.engine.get_history(task_id) == history
        event = await after.engine.publish_event(task_id, type="log", data={"n": 99})
        stored = await after.hot.get(task_id)
        assert stored is not None and stored.epoch == 2, "what may have been lost is never passed over in silence"
        assert event.index == history[-1].index + 1
        await after.engine.transition_task(task_id, "completed")
        assert [e.type for e in await read(after.engine, task_id, since={"id": history[-1].id})] == [
            "log", "taskcast:status",
        ]  # fmt: skip
        await after.archived(task_id)
        assert (await after.cold.watermark(task_id)).epoch == 2  # type: ignore[union-attr]


async def test_a_flushed_redis_is_made_up_for(tmp_path: Path, postgres_url: str, own_redis_server: RedisServer) -> None:
    async with open_tiers(own_redis_server.url, tmp_path, postgres_url) as tiers:
        engine = tiers.engine
        task_id = await chatty(engine)
        await tiers.archived(task_id)
        history = await engine.get_history(task_id)
        with redis.Redis(port=own_redis_server.port) as client:
            client.flushall()
        assert await engine.get_history(task_id) == history
        event = await engine.publish_event(task_id, type="log", data={"n": 99})
        assert event.index == history[-1].index + 1
        stored = await tiers.hot.get(task_id)
        assert stored is not None and stored.epoch == 2
        await engine.transition_task(task_id, "completed")
        resumed = await read(engine, task_id, since={"id": history[-1].id})
        assert [e.type for e in resumed] == ["log", "taskcast:status"]
        await tiers.archived(task_id)
        assert await tiers.cold.get(task_id) == evolve(await tiers.existing(task_id), first_index=0)


async def test_a_rewound_redis_gives_way_to_the_archive(
    tmp_path: Path, postgres_url: str, own_redis_server: RedisServer
) -> None:
    """All keys as they were some time ago, as after a failover to a replica that lagged behind."""
    with redis.Redis(port=own_redis_server.port) as client:
        async with open_tiers(own_redis_server.url, tmp_path, postgres_url) as tiers:
            engine = tiers.engine
            task_id, other = await chatty(engine, rounds=2), await chatty(engine, rounds=2)
            await tiers.archived(task_id)
            await tiers.archived(other)
            past = {key: client.dump(key) for key in client.scan_iter()}
            await chat(engine, task_id, 2, first=2)
            await engine.transition_task(other, "completed")
            await tiers.archived(task_id)
            await tiers.archived(other)
            history, ended = await engine.get_history(task_id), await engine.get_history(other)
            client.flushall()
            for key, value in past.items():
                client.restore(key, 0, cast(bytes, value))
            grown = await engine.publish_event(task_id, type="log", data={"grew": "anew"})
            assert grown.index == 7, "nobody knows yet"
            await engine.publish_event(other, type="log", data={"grew": "anew"})

            async def are_one_log() -> bool:
                both = [await tiers.hot.get(task_id), await tiers.hot.get(other)]
                return [one and one.epoch for one in both] == [2, 2]

            await eventually(are_one_log)
            assert await engine.get_history(task_id) == history and await engine.get_history(other) == ended
            assert (await tiers.existing(other)).task.status == "completed", "the archive knew more"
            event = await engine.publish_event(task_id, type="log", data={})
            assert event.index == history[-1].index + 1
            await engine.transition_task(task_id, "completed")
            told = await read(engine, task_id, since={"id": grown.id})
            assert told[0].type == "taskcast:gap" and told[-1].data == {"status": "completed"}
            await tiers.archived(task_id)
            assert await tiers.cold.get(task_id) == evolve(await tiers.existing(task_id), first_index=0)


# ── The hot window ────────────────────────────────────────────────────────────────────────────────────────────────────

WINDOW = evolve(
    SETTINGS,
    archive=ArchiveSettings(page=10, keep_last=20, keep_hot=40),
    follower=FollowerSettings(lease_ms=1_000, poll_s=0.02, turn=3),
)


async def test_a_long_log_is_not_hot_as_a_whole(kind: str, tmp_path: Path, postgres_url: str) -> None:
    async with (
        open_tiers(kind, tmp_path, postgres_url, WINDOW) as tiers,
        TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as model,
    ):
        engines = (tiers.engine, model)
        ids = [await chatty(engine, rounds=1) for engine in engines]
        following = asyncio.create_task(read(tiers.engine, ids[0]))
        for n in range(1, 60):
            events = [
                {"type": "delta", "data": {"delta": f"{n}"}, "seriesId": "s", "seriesMode": "accumulate"},
                {"type": "log", "data": {"n": n}},
                {"type": "progress", "data": n, "seriesId": f"p{n % 7}", "seriesMode": "latest"},
            ]
            for engine, task_id in zip(engines, ids, strict=True):
                await engine.publish_events(task_id, events)

        async def is_short() -> bool:
            stored = await tiers.existing(ids[0])
            return stored.last_index + 1 - stored.first_index <= 40 + 20 + 33

        await eventually(is_short)
        for engine, task_id in zip(engines, ids, strict=True):
            await engine.transition_task(task_id, "completed")
        for filter_ in FILTERS:
            mine, wanted = [await read(e, i, **filter_) for e, i in zip(engines, ids, strict=True)]
            assert shown(mine) == shown(wanted)
            for at in (0, len(mine) // 3, len(mine) - 1):
                resumed = [
                    await read(engine, task_id, **filter_, since={"id": seen[at].id})
                    for engine, task_id, seen in zip(engines, ids, (mine, wanted), strict=True)
                ]
                assert shown(resumed[0]) == shown(resumed[1])
        for position in (0, 30, 58):
            resumed = [
                await read(e, i, types=["log"], since={"index": position}) for e, i in zip(engines, ids, strict=True)
            ]
            assert shown(resumed[0]) == shown(resumed[1]) and len(resumed[0]) == 59 - position
        indexes = [event.index for event in await following]
        assert indexes == sorted(set(indexes))


# ── Outages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(400)
async def test_postgres_is_away_under_load(
    kind: str, tmp_path: Path, own_postgres_server: PostgresServer, scale: Scale
) -> None:
    async with open_tiers(kind, tmp_path, own_postgres_server.create_database()) as tiers:
        engine = tiers.engine
        tasks = [(await engine.create_task(type="load")).id for _ in range(8)]
        for task_id in tasks:
            await engine.transition_task(task_id, "running")
        sent = dict.fromkeys(tasks, 0)

        async def publish_for(seconds: float) -> list[float]:
            took: list[float] = []
            ends = time.monotonic() + seconds

            async def one(task_id: str) -> None:
                while time.monotonic() < ends:
                    began = time.monotonic()
                    await engine.publish_event(task_id, type="log", data={"n": sent[task_id]})
                    took.append(time.monotonic() - began)
                    sent[task_id] += 1
                    await asyncio.sleep(0.01)

            await asyncio.gather(*map(one, tasks))
            return took

        seconds = scale(1, 60)
        baseline = await publish_for(seconds)
        await asyncio.to_thread(own_postgres_server.stop)
        during = await publish_for(seconds)
        lag = await engine.archive_lag()
        assert lag is not None and lag.lanes == len(tasks), "the lag shows"
        assert lag.events >= len(during) - len(tasks) * SETTINGS.archive.page and lag.oldest_ms > seconds * 500
        assert not tiers.cold.health.is_healthy
        await asyncio.to_thread(own_postgres_server.start)
        for task_id in tasks:
            await tiers.archived(task_id, within_s=40)
            cold = await tiers.cold.read(task_id, limit=5)
            assert cold.log_last == sent[task_id], "one status event and all that was acknowledged"
            assert await tiers.cold.get(task_id) == await tiers.hot.get(task_id)
        lag = await engine.archive_lag()
        assert lag is not None and (lag.lanes, lag.events) == (0, 0), "and goes"
        if scale.full:
            assert p99(during) < 2 * p99(baseline)


def p99(took: list[float]) -> float:
    return quantiles(took, n=100)[98]


# ── Restarts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.postgres.tiers import open_tiers

async def main():
    async with open_tiers("sqlite", Path(sys.argv[1]), sys.argv[2]) as tiers:
        n = 0
        task = await tiers.engine.create_task(type="restart", id=sys.argv[3])
        await tiers.engine.transition_task(task.id, "running")
        while True:
            for series in ("s", "t"):
                await tiers.engine.publish_event(
                    task.id, type="delta", data={"delta": f"{n},"}, series_id=series, series_mode="accumulate"
                )
            await tiers.engine.publish_event(
                task.id, type="progress", data={"n": n}, series_id="p", series_mode="latest"
            )
            n += 1
            print(n, flush=True)

asyncio.run(main())
"""


async def test_a_killed_process_goes_on_where_it_was(tmp_path: Path, postgres_url: str, scale: Scale) -> None:
    for kill in range(scale(2, 20)):
        task_id = f"restart-{kill}"
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(tmp_path), postgres_url, task_id, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        acknowledged = 0
        while acknowledged < 25 + 17 * kill:
            acknowledged = int(await asyncio.wait_for(child.stdout.readline(), 60))
        child.send_signal(signal.SIGKILL)
        rest, _ = await child.communicate()
        acknowledged = max([acknowledged, *map(int, rest.split())])
        async with open_tiers("sqlite", tmp_path, postgres_url) as tiers:
            stored = await tiers.hot.get(task_id)
            assert stored is not None and stored.last_index >= 3 * acknowledged, "nothing acknowledged is lost"
            await tiers.archived(task_id)
            assert await portrait(tiers.cold, task_id) == await portrait(tiers.hot, task_id)
            await tiers.release(task_id)
            await tiers.engine.publish_event(task_id, type="log", data={})
