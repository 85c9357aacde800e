"""Archives that are imported while they come: the same as those that are read at once, whatever way they are cut."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine, wire
from taskcast_core.contracts import LogCopy
from taskcast_core.errors import InvalidInput
from taskcast_core.models import Event
from taskcast_core.spooling import ArchiveSpool, Splitter
from taskcast_core.testing.making import RICH_HISTORY
from taskcast_core.testing.portrait import portrait
from taskcast_core.transfer import log_copy, parse
from tests.core.stores import STORES, open_store
from tests.core.tiers import chatty

pytestmark = pytest.mark.anyio

ODD_TEXT = 'quoted "[{,:}]" \\ back\\slash \u2028 \x00 ü 😀'


async def archive_of(*extra: Any) -> dict[str, Any]:
    """An archive as another program writes it: names in any order, and every series with all its events."""
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as engine:
        task_id = await chatty(engine, rounds=1, id="t", metadata={"events": [{"archive": ODD_TEXT}]})
        await engine.publish_events(task_id, [*RICH_HISTORY[1:], *extra])
        events = await engine.get_history(task_id)
        task = await engine.get_task(task_id)
    shown = [{**wire.to_wire(event), "index": at} for at, event in enumerate(events)]
    return {"schema": "taskcast.taskArchive", "task": wire.to_wire(task), "version": 1, "events": shown,
            "exportedAt": 5}  # fmt: skip


def parts(text: bytes, rng: random.Random, longest: int) -> Iterator[bytes]:
    at = 0
    while at < len(text):
        size = rng.randint(1, longest)
        yield text[at : at + size]
        at += size


@pytest.mark.parametrize("longest", [1, 7, 300, 100_000])
async def test_however_it_is_cut(longest: int) -> None:
    archive = await archive_of({"type": "log", "data": {ODD_TEXT: [ODD_TEXT, 1.5, None, {}]}})
    for indent in (None, 2):
        text = json.dumps({"overwrite": True, "archive": archive, "more": "x"}, indent=indent).encode()
        splitter, events = Splitter(), list[bytes]()
        for part in parts(text, random.Random(longest), longest):
            events += splitter.feed(part)
        assert [json.loads(event) for event in events] == archive["events"]
        assert splitter.document() == {"overwrite": True, "archive": {**archive, "events": []}, "more": "x"}


@pytest.mark.parametrize("kind", STORES)
async def test_the_log_is_the_same(kind: str, tmp_path: Path) -> None:
    archive = await archive_of()
    text = json.dumps({"archive": archive}).encode()
    async with open_store(kind, tmp_path) as store:
        async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store) as engine:
            parsed = parse(archive)
            await engine.import_copy(log_copy(parsed, engine.import_record(parsed.task)))
            at_once = await portrait(store, "t")
            with ArchiveSpool(engine.import_record, lambda event, at: None) as spool:
                for part in parts(text, random.Random(1), 500):
                    spool.feed(part)
                copy, _ = spool.finish()
                result = await engine.import_copy(copy, overwrite=True)
        assert (result.task_id, result.event_count, result.overwritten) == ("t", len(archive["events"]), True)
        assert await portrait(store, "t") == at_once


def spooled(body: Any, seen: list[Event] | None = None) -> LogCopy:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    engine = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore())
    with ArchiveSpool(
        engine.import_record, lambda event, at: seen.append(event) if seen is not None else None
    ) as spool:
        spool.feed(text)
        return spool.finish()[0]


async def test_what_is_wrong_is_found() -> None:
    good = await archive_of()
    events = good["events"]
    twice = [events[0], events[1], {**events[0], "index": 2}]
    whole = json.dumps({"archive": good}).encode()
    bodies: list[Any] = [
        b"", b"[]", b"{}", b'{"archive": 1}', b'{"archive": {"events": 1}}', b'{"archive": {"events": [',
        b'{"events": []}', whole[:-1], whole.replace(b'}, {"id"', b'} {"id"', 1),
        whole.replace(b'}, {"id"', b'}, 1, {"id"', 1),
        {"archive": {"events": events, **{name: good[name] for name in good if name != "events"}}},
        {"archive": {**good, "version": 2}},
        {"archive": {name: good[name] for name in good if name != "schema"}},
        {"archive": {**good, "events": [1]}},
        {"archive": {**good, "events": ["x"]}},
        {"archive": {**good, "events": [[]]}},
        {"archive": {**good, "events": events[1:]}},
        {"archive": {**good, "events": [events[0], {**events[1], "taskId": "other"}]}},
        {"archive": {**good, "events": twice}},
    ]  # fmt: skip
    for body in bodies:
        with pytest.raises(InvalidInput):
            spooled(body)
    assert len(spooled({"archive": good}).items) == len(events)
    assert len(spooled({"archive": {**good, "events": []}}).items) == 0


async def test_ids_in_any_order_are_compared() -> None:
    archive = await archive_of()
    names = ["c", "a", "b", *[f"d{n}" for n in range(3, len(archive["events"]))]]
    events = [{**event, "id": name} for event, name in zip(archive["events"], names, strict=True)]
    assert [entry.id for entry in spooled_entries({"archive": {**archive, "events": events}})] == names
    events[-1]["id"] = "a"
    with pytest.raises(InvalidInput, match="one id"):
        spooled({"archive": {**archive, "events": events}})


def spooled_entries(body: Any) -> list[Event]:
    seen: list[Event] = []
    spooled(body, seen)
    return seen
