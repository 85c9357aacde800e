"""Resume is exact: every cursor × filter × series format × point of cut, before and after cleanup, ended and live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise, product
from typing import Any

import pytest
from attrs import evolve

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.contracts.task_log import TrimRule
from taskcast_core.engine import TaskEngine
from taskcast_core.hub import HubSettings
from taskcast_core.models import Cursor, SeriesFormat, SubscribeFilter
from taskcast_core.settings import EngineSettings
from taskcast_core.subscription import Subscription
from taskcast_core.testing import ManualClock
from tests.core.conftest import OpenEngine
from tests.core.oracle import Client, Frame, Log, accumulates, frame_of, is_visible
from tests.core.stores import AnyStore
from tests.core.wrapping import WrappedStore

pytestmark = pytest.mark.anyio

FILTERS = {
    "everything": SubscribeFilter(),
    "types": SubscribeFilter(types=("llm.*", "taskcast:status")),
    "levels": SubscribeFilter(levels=("info", "error")),
    "no_status": SubscribeFilter(include_status=False),
    "types_and_levels": SubscribeFilter(types=("llm.*", "tool"), levels=("info",), include_status=False),
    "part_of_a_series": SubscribeFilter(types=("llm.note",)),
    "nothing": SubscribeFilter(types=()),
}
FORMATS: tuple[SeriesFormat, ...] = ("delta", "accumulated")
CLEANUPS: dict[str, TrimRule | None] = {
    "whole": None,
    "one_type": TrimRule(types=("llm.delta",)),
    "one_level": TrimRule(levels=("debug",)),
    "series_only": TrimRule(types=("llm.*", "tool", "answer"), series_modes=("accumulate",)),
    "everything": TrimRule(keep_series_ends=False),
}


def delta(text: str, series: str = "s", type: str = "llm.delta", level: str = "info") -> dict[str, Any]:
    return {
        "type": type, "level": level, "data": {"delta": text, "n": len(text)}, "seriesId": series,
        "seriesMode": "accumulate",
    }  # fmt: skip


def latest(value: int) -> dict[str, Any]:
    return {"type": "tool", "level": "info", "data": {"percent": value}, "seriesId": "p", "seriesMode": "latest"}


def plain(name: str, level: str = "info") -> dict[str, Any]:
    return {"type": name, "level": level, "data": {"name": name}}


STORY: list[dict[str, Any] | list[dict[str, Any]]] = [
    plain("tool"),
    delta("A"),
    [delta("B"), plain("other", "debug"), delta("x", "t", "answer", "debug")],
    latest(1),
    delta("C", type="llm.note"),
    {"type": "answer", "level": "error", "data": {"text": "one "}, "seriesId": "u", "seriesMode": "accumulate"},
    delta("y", "t", "answer"),
    [latest(2), delta("D")],
    plain("tool", "warn"),
    {"type": "keep", "level": "info", "data": {"delta": "k"}, "seriesId": "k", "seriesMode": "keep-all"},
    delta("E\N{GRINNING FACE}", level="debug"),
    {"type": "answer", "level": "info", "data": {"text": "two"}, "seriesId": "u", "seriesMode": "accumulate"},
    delta("z", "t", "answer", "debug"),
    latest(3),
    delta("F"),
]
MIDDLE = 7
"""So many steps are told before the readers that come in the middle."""


async def tell(engine: TaskEngine, clock: ManualClock, task_id: str, steps: Sequence[Any]) -> None:
    """Publish, time passing at every other step only, so that some commits share a millisecond."""
    for at, step in enumerate(steps):
        clock.advance(at % 2)
        await engine.publish_events(task_id, step if isinstance(step, list) else [step])


async def finish(engine: TaskEngine, clock: ManualClock, task_id: str) -> None:
    clock.advance(1)
    await engine.transition_task(task_id, "completed", result={"ok": True})


async def frames_of(subscription: Subscription) -> list[Frame]:
    """All frames of a stream that ends with its task."""
    frames = [frame_of(delivery) async for batch in subscription.batches() for delivery in batch.deliveries]
    assert subscription.status == "completed"
    return frames


def check_seam(before: Sequence[Frame], after: Sequence[Frame]) -> None:
    """No repeat and in order over the cut; a gap notice is the first of its stream, just before its next frame."""
    if after and after[0].gap is not None:
        notice, *after = after
        assert notice.id == ""
        if after:
            assert (notice.index, notice.position) == (after[0].index - 1, after[0].position - 1)
        before = ()
    both = [*before, *after]
    assert all(frame.gap is None for frame in after)
    assert all(a.index < b.index and a.position < b.position for a, b in pairwise(both))


def cursors(frame: Frame, log: Log) -> dict[str, Callable[[SubscribeFilter], SubscribeFilter]]:
    """The filters that resume behind a frame, by kind of cursor."""
    at = log.events[frame.index].timestamp
    return {
        "id": lambda wanted: evolve(wanted, since=Cursor(id=frame.id)),
        "index": lambda wanted: evolve(wanted, since=Cursor(index=frame.position)),
        "timestamp": lambda wanted: evolve(wanted, since=Cursor(timestamp=at)),
        "last_event_id": lambda wanted: evolve(wanted, since=Cursor(id=frame.id), resume="snapshot"),
        "id_and_index": lambda wanted: evolve(wanted, since=Cursor(id=frame.id, index=0)),
    }


def whole_series(log: Log, wanted: SubscribeFilter) -> list[str]:
    """The accumulate series of which a filter hides nothing."""
    parts = [event for event in log.events if accumulates(event)]
    hidden = {event.series_id for event in parts if not is_visible(event, wanted)}
    return sorted({event.series_id for event in parts if event.series_id} - hidden)


def check_texts(log: Log, wanted: SubscribeFilter, frames: Sequence[Frame]) -> None:
    client = Client.of(log, wanted).take(frames)
    for series_id in whole_series(log, wanted):
        newest = max(e.index for e in log.events if e.series_id == series_id)
        text = client.texts.get(series_id)
        if newest in log.trimmed:  # whoever has read it before may keep it
            assert text is None or text == log.text(series_id), series_id
        else:
            assert text == log.text(series_id), series_id


async def told(engine: TaskEngine, clock: ManualClock, *, steps: int = len(STORY)) -> str:
    task = await engine.create_task(type="story")
    await engine.transition_task(task.id, "running")
    await tell(engine, clock, task.id, STORY[:steps])
    return task.id


async def history_of(engine: TaskEngine, task_id: str) -> Log:
    """The list of all committed events, which is complete as long as nothing was replaced or removed."""
    return Log(await engine.get_history(task_id))


class Recorder:
    """Keeps what was committed, also what the log itself does not show any more."""

    def __init__(self, engine: TaskEngine) -> None:
        self.engine = engine

    async def record(self, clock: ManualClock) -> tuple[str, dict[tuple[str, str, str], list[Frame]], Log]:
        """Tell the story to readers that come at the start, in the middle and at the end, of every filter."""
        engine = self.engine
        task_id = (await engine.create_task(type="story")).id
        every = {(name, kind): evolve(wanted, series_format=kind) for (name, wanted), kind in
                 product(FILTERS.items(), FORMATS)}  # fmt: skip
        witness = await engine.subscribe(task_id).open()
        early = {key: await engine.subscribe(task_id, wanted).open() for key, wanted in every.items()}
        await engine.transition_task(task_id, "running")
        await tell(engine, clock, task_id, STORY[:MIDDLE])
        head = await self.head(task_id)
        midway = {key: await engine.subscribe(task_id, wanted).open() for key, wanted in every.items()}
        await tell(engine, clock, task_id, STORY[MIDDLE:])
        await finish(engine, clock, task_id)
        log = Log([delivery.entry.event() async for batch in witness.batches() for delivery in batch.deliveries])
        assert [event.index for event in log.events] == list(range(len(log.events)))
        seen: dict[tuple[str, str, str], list[Frame]] = {}
        for (name, kind), wanted in every.items():
            last = log.events[-1].index
            late = engine.subscribe(task_id, wanted)
            readers = {"early": (early[name, kind], -1), "midway": (midway[name, kind], head), "late": (late, last)}
            for when, (reader, known) in readers.items():
                frames = await frames_of(reader)
                log.check(frames, wanted, known)
                check_seam((), frames)
                check_texts(log, wanted, frames)
                seen[name, kind, when] = frames
        return task_id, seen, log

    async def head(self, task_id: str) -> int:
        stored = await self.engine.store.get(task_id)
        assert stored is not None
        return stored.last_index


@pytest.mark.parametrize("cleanup", CLEANUPS)
async def test_every_cursor_at_every_cut_of_an_ended_task(
    engine: TaskEngine, store: AnyStore, clock: ManualClock, cleanup: str
) -> None:
    task_id, seen, log = await Recorder(engine).record(clock)
    rule = CLEANUPS[cleanup]
    if rule is not None:
        stored = await store.get(task_id)
        assert stored is not None
        gone = log.replaced()
        log.trimmed = doomed_by(rule, log) - gone
        assert await store.trim(task_id, stored.epoch, rule) == len(log.trimmed)
    resumes = 0
    for (name, kind, when), frames in seen.items():
        base = evolve(FILTERS[name], series_format=kind)
        snapshots = [frame.index for frame in frames if frame.is_snapshot]
        for cut, frame in enumerate(frames):
            read = frames[: cut + 1]
            for cursor, resuming in cursors(frame, log).items():
                wanted = resuming(base)
                later = await frames_of(engine.subscribe(task_id, wanted))
                log.check(later, wanted, log.events[-1].index)
                check_seam([] if cursor == "timestamp" else read, later)
                # Deltas alone cannot complete a text whose snapshot was still to come.
                can_complete = kind == "accumulated" or frame.index >= max(snapshots, default=-1)
                if cursor == "last_event_id" or (can_complete and cursor in ("id", "index")):
                    check_texts(log, wanted, [*read, *later])
                resumes += 1
        fresh = await frames_of(engine.subscribe(task_id, base))
        log.check(fresh, base, log.events[-1].index)
        assert when in ("early", "midway", "late")
    assert resumes > 500


def doomed_by(rule: TrimRule, log: Log) -> set[int]:
    """What a cleanup rule removes, by the words of the spec."""
    newest = {e.series_id: e.index for e in log.events if e.series_id and e.series_mode in ("accumulate", "latest")}
    kept = set(newest.values()) if rule.keep_series_ends else set()
    return {
        event.index
        for event in log.events
        if event.index not in kept
        and (rule.types is None or is_visible(event, SubscribeFilter(types=rule.types)))
        and (rule.levels is None or event.level in rule.levels)
        and (rule.series_modes is None or event.series_mode is None or event.series_mode in rule.series_modes)
    }


async def test_every_cursor_at_every_cut_of_a_live_task(engine: TaskEngine, clock: ManualClock) -> None:
    """Readers are cut while the task is live, come back, and see the rest of it happen."""
    task_id = (await engine.create_task(type="story")).id
    witness = await engine.subscribe(task_id).open()
    await engine.transition_task(task_id, "running")
    await tell(engine, clock, task_id, STORY[:MIDDLE])
    known = await history_of(engine, task_id)
    head = known.events[-1].index
    readers: list[tuple[SubscribeFilter, list[Frame], Subscription, bool]] = []
    for name, kind in product(FILTERS, FORMATS):
        base = evolve(FILTERS[name], series_format=kind)
        for since in (None, Cursor(index=-1)):
            frames: list[Frame] = []
            async with engine.subscribe(task_id, evolve(base, since=since)) as first:
                async for batch in first.batches():
                    frames += [frame_of(delivery) for delivery in batch.deliveries]
                    if batch.after == head:
                        break
            snapshots = [frame.index for frame in frames if frame.is_snapshot]
            for cut, frame in enumerate(frames):
                for cursor, resuming in cursors(frame, known).items():
                    wanted = resuming(base)
                    can_complete = kind == "accumulated" or frame.index >= max(snapshots, default=-1)
                    is_whole = cursor == "last_event_id" or (can_complete and cursor in ("id", "index"))
                    reader = await engine.subscribe(task_id, wanted).open()
                    readers.append((wanted, [] if cursor == "timestamp" else frames[: cut + 1], reader, is_whole))
    await tell(engine, clock, task_id, STORY[MIDDLE:])
    await finish(engine, clock, task_id)
    log = Log([delivery.entry.event() async for batch in witness.batches() for delivery in batch.deliveries])
    assert len(readers) > 200
    for wanted, read, reader, is_whole in readers:
        later = await frames_of(reader)
        log.check(later, wanted, head)
        check_seam(read, later)
        if is_whole:
            check_texts(log, wanted, [*read, *later])


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("name", FILTERS)
async def test_a_limit_replays_the_last_frames(engine: TaskEngine, clock: ManualClock, name: str, limit: int) -> None:
    task_id = await told(engine, clock)
    witness = await engine.subscribe(task_id, {"since": {"index": -1}}).open()
    await finish(engine, clock, task_id)
    log = Log([delivery.entry.event() async for batch in witness.batches() for delivery in batch.deliveries])
    # The witness came late: values that were replaced before are not shown to it; put something in their place.
    at_index = {event.index: event for event in log.events}
    filler = next(event for event in log.events if event.series_mode == "latest")
    log = Log([at_index.get(i, evolve(filler, index=i)) for i in range(log.events[-1].index + 1)])
    for kind in FORMATS:
        wanted = evolve(FILTERS[name], series_format=kind, limit=limit)
        frames = await frames_of(engine.subscribe(task_id, wanted))
        assert len(frames) <= limit
        log.check(frames, wanted, log.events[-1].index)


GAPS: dict[str, tuple[Cursor, str]] = {
    "of another task or epoch": (Cursor(id="01M7ZD285TWQA0NZF100000000"), "epoch"),
    "imported or rubbish": (Cursor(id="no-such-id"), "unknown_id"),
    "index beyond the newest": (Cursor(index=10_000), "ahead"),
}


@pytest.mark.parametrize("case", GAPS)
@pytest.mark.parametrize("resume", ["delta", "snapshot"])
async def test_a_cursor_that_cannot_be_honoured_is_said_so(
    engine: TaskEngine, clock: ManualClock, case: str, resume: str
) -> None:
    cursor, reason = GAPS[case]
    task_id = await told(engine, clock)
    await finish(engine, clock, task_id)
    for name in FILTERS:
        fresh = await frames_of(engine.subscribe(task_id, FILTERS[name]))
        wanted = evolve(FILTERS[name], since=cursor, resume=resume)
        reader = engine.subscribe(task_id, wanted)
        notice, *frames = await frames_of(reader)
        assert (notice.gap, reader.gap) == (reason, reason)
        assert frames == fresh
        check_seam((), [notice, *frames])


async def test_an_index_cursor_of_another_filter_is_honoured_in_this_ones_numbers(
    engine: TaskEngine, clock: ManualClock
) -> None:
    task_id = await told(engine, clock)
    await finish(engine, clock, task_id)
    wanted = evolve(FILTERS["types_and_levels"], since=Cursor(index=2))
    frames = await frames_of(engine.subscribe(task_id, wanted))
    assert frames[0].gap is None
    assert frames[0].position >= 3


async def test_a_cursor_ahead_of_what_this_process_has_heard_is_no_gap(
    open_engine: OpenEngine, store: AnyStore, clock: ManualClock
) -> None:
    """The bells of another process may be late; the store is what counts."""
    here = await open_engine()
    there = await open_engine(broadcast=MemoryBroadcastProvider())
    task_id = await told(here, clock, steps=2)
    async with here.subscribe(task_id):  # its channel knows the log as it is now
        await there.publish_events(task_id, [delta("B"), delta("C")])
        await there.transition_task(task_id, "completed")
        newest = [event.id for event in await there.get_history(task_id)]
        for cursor in (Cursor(index=3), Cursor(id=newest[3]), Cursor(index=3, id=newest[3])):
            frames = await frames_of(here.subscribe(task_id, SubscribeFilter(since=cursor)))
            assert [(frame.index, frame.gap) for frame in frames] == [(4, None), (5, None)]


@pytest.mark.parametrize("hears", ["of nothing", "too late"])
async def test_values_are_replaced_while_their_reader_comes_back(
    open_engine: OpenEngine, store: AnyStore, clock: ManualClock, hears: str
) -> None:
    """Between the question where the cursor stands and the reading on from there: what follows keeps its number."""
    wrapped = WrappedStore(store)
    hub = HubSettings(ring_entries=2)  # what is published meanwhile has to come from the store
    here = await open_engine(short_term_store=wrapped, settings=EngineSettings(hub=hub))
    there = await open_engine(broadcast=MemoryBroadcastProvider()) if hears == "of nothing" else here
    task_id = (await here.create_task()).id
    await here.transition_task(task_id, "running")
    await here.publish_events(task_id, [plain("tool"), latest(1)])
    cursor = (await here.get_history(task_id))[-1].id

    async def and_then_replaced(count: Callable[[], Awaitable[int]]) -> int:
        wrapped.around.clear()
        position = await count()
        await there.publish_events(task_id, [latest(2), latest(3), plain("other"), plain("tool"), latest(4)])
        return position

    wrapped.around["count"] = and_then_replaced
    resumed = await here.subscribe(task_id, SubscribeFilter(types=("tool",), since=Cursor(id=cursor))).open()
    assert not wrapped.around, "the position was asked for"
    await finish(here, clock, task_id)
    frames = await frames_of(resumed)
    assert [(frame.index, frame.position) for frame in frames] == [(6, 4), (7, 5)]


async def test_a_reader_that_is_far_behind_can_resume(open_engine: OpenEngine, clock: ManualClock) -> None:
    """Being closed for being too slow must leave a way to go on."""
    engine = await open_engine(settings=EngineSettings(max_lag=50))
    task_id = (await engine.create_task()).id
    await engine.transition_task(task_id, "running")
    slow = await engine.subscribe(task_id).open()
    first = [frame_of(delivery) async for batch in _until_live(slow) for delivery in batch.deliveries]
    for _ in range(4):
        await engine.publish_events(task_id, [plain("tool")] * 50)
    closed = [batch async for batch in slow.batches()]
    assert (closed, slow.status) == ([], None)
    await finish(engine, clock, task_id)
    again = await frames_of(engine.subscribe(task_id, SubscribeFilter(since=Cursor(id=first[-1].id))))
    assert [frame.index for frame in again] == list(range(1, 202))


async def _until_live(subscription: Subscription) -> Any:
    """Batches until the reader has everything, which then stops reading without leaving."""
    channel = subscription._channel
    assert channel is not None
    while subscription._place.after < channel.head:
        yield await subscription._next(channel)
