"""The cases of a store that survives its process: killed at random moments, and reopened."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from attrs import define, field

from taskcast_core.contracts import Change, DeadLetter, TaskLog
from taskcast_core.testing.contract import LONG_MS, Contract, HotStore
from taskcast_core.testing.making import (
    RICH_HISTORY,
    a_key,
    created,
    current,
    delta,
    entries_of,
    fresh_id,
    message,
    publish,
    replace,
    whole_log,
)
from taskcast_core.testing.opening import OpenSpec
from taskcast_core.testing.portrait import portrait
from taskcast_core.testing.workers import a_worker, reserved

ROUNDS = 3
START_WITHIN_S = 30.0
LONGEST_RUN_S = 30.0


@define
class Testimony:
    """What a killed process had said of one of its tasks: commits begun (key by number), and acknowledged."""

    __test__ = False

    begun: dict[int, str] = field(factory=dict)
    acknowledged: dict[int, Mapping[str, Any]] = field(factory=dict)


async def run_and_kill(spec: OpenSpec, word: str, acks: int, linger_s: float) -> dict[str, Testimony]:
    """Let a child commit until it has said so many acks, wait a moment, and kill it: what it said, per task."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"{__package__}.durable_child", spec.text(), word,
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert child.stdout is not None
    said: dict[str, Testimony] = {}
    try:
        async with asyncio.timeout(START_WITHIN_S + LONGEST_RUN_S):
            while sum(len(one.acknowledged) for one in said.values()) < acks:
                line = await child.stdout.readline()
                assert line, "the child ended by itself; see standard error"
                _note(said, line)
            await asyncio.sleep(linger_s)
    finally:
        if child.returncode is None:
            child.kill()
        rest, _ = await child.communicate()
    for line in rest.splitlines(keepends=True):
        if line.endswith(b"\n"):
            _note(said, line)
    return said


def _note(said: dict[str, Testimony], line: bytes) -> None:
    facts = json.loads(line)
    task = said.setdefault(facts["task"], Testimony())
    if "start" in facts:
        task.begun[facts["start"]] = facts["key"]
    elif facts["ack"] != "create":
        task.acknowledged[facts["ack"]] = facts


async def check_task(store: TaskLog, task_id: str, said: Testimony) -> None:
    """Everything acknowledged is there as it was; what else is there is whole; every commit is there once."""
    before = await current(store, task_id)
    entries = {entry.index: entry for entry in entries_of(await whole_log(store, task_id))}
    for fact in said.acknowledged.values():
        for index, id_, timestamp in fact["entries"]:
            assert index in entries, f"acknowledged entry {index} of {task_id} is lost"
            assert (entries[index].id, entries[index].timestamp) == (id_, timestamp)
        assert before.rev >= fact["rev"], f"an acknowledged record of {task_id} is lost"
    assert list(entries) == list(range(before.last_index + 1))
    stamps = [entry.timestamp for entry in entries.values()]
    assert stamps == sorted(stamps)
    deltas = [e.data["delta"] for e in entries.values() if e.series_id]
    ticks = [tuple(e.data) for e in entries.values() if e.type == "tick"]
    assert len(deltas) == len(ticks), "a batch is torn"
    for n, key in said.begun.items():
        again = await store.commit(task_id, Change((delta("s", f"{n}.0,"), message("tick", [n, 1])), key=a_key(key)))
        if n in said.acknowledged:
            assert again.replayed, f"the key of acknowledged commit {n} of {task_id} is forgotten"
            assert [e.id for e in again.entries][:2] == [id_ for _, id_, _ in said.acknowledged[n]["entries"]][:2]
    after = entries_of(await whole_log(store, task_id))
    assert [e.data for e in after if e.type == "tick"] == [[n, 1] for n in sorted(said.begun)]
    last = [e.index for e in after if e.series_id][-1:]
    for index in last:
        total = "".join(f"{n}.0," for n in sorted(said.begun))
        assert await store.fold(task_id, "s", index) == {"delta": total}


class DurableContract(Contract):
    """What an acknowledgement of a durable store means. Override the fixture ``durable_store``."""

    capability: ClassVar[str] = "Durable"
    promise: ClassVar[str] = "what was acknowledged is there after the process was killed"
    subject: ClassVar[str] = "durable_store"
    case_deadline_s: ClassVar[float] = 300.0

    @pytest.fixture
    def durable_store(self) -> OpenSpec:
        """How a child process opens the store; the backend is empty, and nobody has it open."""
        raise NotImplementedError("override the fixture `durable_store`")

    @pytest.fixture
    def kills(self) -> int:
        """How often the store is killed in one case."""
        return ROUNDS

    async def test_nothing_acknowledged_is_lost_by_a_kill(self, durable_store: OpenSpec, kills: int) -> None:
        rng = random.Random()  # the moments are to differ from run to run
        everything: dict[str, Testimony] = {}
        for n in range(kills):
            said = await run_and_kill(durable_store, fresh_id(f"kill{n}"), rng.randint(1, 80), rng.uniform(0, 0.05))
            async with durable_store.open() as store:
                dirty = {d.task_id for d in await store.claim_dirty("archive", "me", 1000, 1)}
                assert said.keys() <= dirty, "a dirty mark is lost"
                for task_id, testimony in said.items():
                    await check_task(store, task_id, testimony)
            everything |= said
        async with durable_store.open() as store:
            for task_id, testimony in everything.items():
                await check_task(store, task_id, testimony)

    async def test_everything_is_there_after_a_restart(self, durable_store: OpenSpec) -> None:
        letter = DeadLetter("letter", "t", "webhook:0", 1, 2, {"why": "\x00"})
        key = a_key()
        async with durable_store.open() as store:
            at = store.now_ms() + LONG_MS
            first = await created(store, *RICH_HISTORY, timers={"ttl": at}, lanes=("archive",), tags=("x",))
            done = await replace(store, first, message("keyed"), key=key, status="running")
            worker = await store.put_worker(a_worker(store.now_ms()))
            held = await reserved(store, worker, cost=2)
            await store.add_dead_letter(letter)
            before = await portrait(store, first.task.id)
        async with durable_store.open() as store:
            await self._is_as_before(store, first.task.id, at)
            assert await portrait(store, first.task.id) == before
            assert await current(store, first.task.id) == done.stored
            again = await replace(store, first, message("keyed"), key=key, status="running")
            assert again.replayed and again.stored.record == done.stored.record
            assert list(await store.assignments(worker_id=worker.id)) == [held]
            stored = await store.get_worker(worker.id)
            assert stored is not None and stored.used_slots == 2
            assert list(await store.dead_letters(10)) == [letter]

    async def _is_as_before(self, store: HotStore, task_id: str, due_at: int) -> None:
        assert await store.next_due("ttl") == due_at
        assert task_id in {dirty.task_id for dirty in await store.claim_dirty("archive", "me", 10, LONG_MS)}

    async def test_deletions_and_tombstones_survive_a_restart(self, durable_store: OpenSpec) -> None:
        async with durable_store.open() as store:
            gone, hidden = await created(store, message()), await created(store, message())
            for stored, linger_ms in ((gone, 0), (hidden, LONG_MS)):
                await store.delete(stored.task.id, linger_ms=linger_ms)
            assert await store.purge(gone.task.id, tombstone_ms=LONG_MS) is True
        async with durable_store.open() as store:
            assert await store.get(gone.task.id) is None and await store.get(hidden.task.id) is None
            assert len(await whole_log(store, hidden.task.id, epoch=hidden.epoch)) == 1
            assert (await created(store, id=gone.task.id)).epoch > gone.epoch

    async def test_the_log_goes_on_after_a_restart(self, durable_store: OpenSpec) -> None:
        async with durable_store.open() as store:
            stored = await created(store, *RICH_HISTORY)
        async with durable_store.open() as store:
            done = await publish(store, stored.task.id, delta("answer", "!", "other"), message())
            assert [e.index for e in done.entries] == [stored.last_index + 1, stored.last_index + 2]
            assert done.entries[0].timestamp >= stored.last_timestamp and done.stored.epoch == stored.epoch
            assert await store.fold(stored.task.id, "answer", stored.last_index + 1) == {"other": "stop!"}
