"""Processes that die, or stall, at a given one of their calls to a store, and what has to be true afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, cast

from attrs import define, evolve, field, frozen

from taskcast_core import TaskEngine
from taskcast_core.archive import ArchiveSettings
from taskcast_core.contracts import LogReader
from taskcast_core.errors import TaskcastError
from taskcast_core.followers import FollowerSettings
from taskcast_core.settings import EngineSettings
from taskcast_core.testing.making import entries_of, whole_log
from taskcast_core.testing.portrait import line
from taskcast_core.tiers import TieredReader
from tests.core.tiers import Tiers, chat, chatty
from tests.core.wrapping import is_awaited
from tests.fixtures.eventually import eventually

LEASE_MS = 60
IN_BACKGROUND = EngineSettings(
    archive=ArchiveSettings(page=7, keep_last=5, keep_hot=8, lease_ms=LEASE_MS),
    follower=FollowerSettings(lease_ms=LEASE_MS, poll_s=0.01, turn=2),
)
BY_HAND = evolve(IN_BACKGROUND, background=False)
"""Nothing happens but what the test asks for: the calls are the same ones every time."""

NEVER = 1 << 30


@define
class Doom:
    """At which call (1, 2 …) of those that are counted a process dies or stalls: ``after`` it was made, or before.

    Attributes:
        is_real: the process is this one, and SIGKILL ends it. may_go_on: set for a stalled one to go on.
    """

    at: int = NEVER
    after: bool = False
    stalls: bool = False
    is_real: bool = False
    counts: bool = True
    calls: list[str] = field(factory=list)
    is_dead: bool = False
    has_happened: asyncio.Event = field(factory=asyncio.Event)
    may_go_on: asyncio.Event = field(factory=asyncio.Event)

    async def around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call, if the process lives to see it; else it never returns."""
        if self.is_dead:
            raise asyncio.CancelledError
        if self.counts:
            self.calls.append(name)
        is_it = self.counts and len(self.calls) == self.at
        if is_it and not self.after:
            await self._strike()
        try:
            result = await call()
        finally:
            # A call that perishes on its way, since the process does, is no reason to die once more.
            if is_it and self.after and not self.is_dead:
                await self._strike()
        if self.is_dead:
            raise asyncio.CancelledError  # it died while this was on its way
        return result

    async def _strike(self) -> None:
        if self.is_real:
            os.kill(os.getpid(), signal.SIGKILL)
        self.is_dead = not self.stalls
        self.has_happened.set()
        await self.may_go_on.wait()


class Doomed:
    """A store as a doomed process sees it."""

    def __init__(self, store: Any, doom: Doom) -> None:
        self.store, self.doom = store, doom

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if not is_awaited(name, real):
            return real

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.doom.around(name, lambda: real(*args, **kwargs))

        return call


def doomed(tiers: Tiers, doom: Doom, settings: EngineSettings = BY_HAND) -> TaskEngine:
    """One more engine over the same stores, in a process that will die."""
    return tiers.another(
        short_term_store=Doomed(tiers.hot, doom), long_term_store=Doomed(tiers.cold, doom), settings=settings
    )


async def dies(engine: TaskEngine, act: Callable[[TaskEngine], Awaitable[Any]], doom: Doom) -> bool:
    """Run an engine, do something with it and let it perish with all that it has begun; whether its time had come."""
    before = asyncio.all_tasks()
    await engine.__aenter__()
    acting = asyncio.ensure_future(act(engine))
    striking = asyncio.ensure_future(doom.has_happened.wait())
    await asyncio.wait((acting, striking), return_when=asyncio.FIRST_COMPLETED, timeout=30)
    has_died = doom.has_happened.is_set()
    if not has_died:
        await acting
    doom.is_dead = True
    mine = [task for task in asyncio.all_tasks() - before if _is_of_an_engine(task)]
    for task in (*mine, acting, striking):
        task.cancel()
    await asyncio.gather(*mine, acting, striking, return_exceptions=True)
    return has_died


def _is_of_an_engine(task: asyncio.Task[Any]) -> bool:
    """Whether a task was begun by an engine, and not by the stores that the living share with it."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "taskcast_core" in code.co_filename and "builtin" not in code.co_filename


@frozen
class Seen:
    """A task's log, wherever it is: its lines, and the total at every accumulate entry."""

    lines: list[tuple[Any, ...]]
    folds: dict[int, Any]


async def everything(tiers: Tiers, task_id: str) -> Seen:
    """Look at the log of a task in both stores."""
    return await seen(TieredReader(tiers.hot, tiers.cold), task_id)


async def seen(reader: LogReader, task_id: str) -> Seen:
    """Look at a log."""
    items = await whole_log(reader, task_id)
    folds = {
        entry.index: await reader.fold(task_id, entry.series_id or "", entry.index)
        for entry in entries_of(items)
        if entry.series_mode == "accumulate"
    }
    return Seen([line(item) for item in items], folds)


async def goes_on(tiers: Tiers, task_id: str, was: Seen, *, added: int = 0) -> None:
    """A new process finds the task as it was (and at most ``added`` events more), and everything works."""
    async with tiers.another(settings=IN_BACKGROUND) as engine:
        stored = await engine.get_task(task_id)
        assert stored is not None and stored.status == "running"
        await tiers.archived(task_id)
        now = await everything(tiers, task_id)
        last = _last(was)
        assert now.lines[: len(was.lines)] == was.lines, "nothing acknowledged is lost or changed"
        assert last <= _last(now) <= last + added
        event = await _published(engine, task_id)
        assert event == _last(now) + 1, "indexes go on without a gap or a repeat"
        await chat(engine, task_id, 2, first=100)
        tiers.engine = engine
        await tiers.release(task_id)
        again = await everything(tiers, task_id)
        lasting = [one for one in now.lines if one[0] != "hole" and one[5] != "latest"]
        assert all(one in again.lines for one in lasting)
        assert {at: again.folds.get(at) for at in now.folds} == now.folds
        assert await _published(engine, task_id) == _last(again) + 1


def _last(log: Seen) -> int:
    newest = log.lines[-1]
    return int(newest[2] if newest[0] == "hole" else newest[0])


async def _published(engine: TaskEngine, task_id: str) -> int:
    """The index of one more event; patient with what a dead process has left behind until its lease is over."""
    for _ in range(200):
        try:
            return (await engine.publish_event(task_id, type="log", data={"late": True})).index
        except TaskcastError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(LEASE_MS / 1000)
    raise AssertionError("never came back")


# ── What a process may be doing when it dies ──────────────────────────────────────────────────────────────────────────


async def a_hot_task(tiers: Tiers) -> str:
    """Archived in full, not released."""
    async with tiers.another(settings=IN_BACKGROUND) as engine:
        task_id = await chatty(engine)
        await tiers.archived(task_id)
    return task_id


async def a_cold_task(tiers: Tiers) -> str:
    """Released."""
    async with tiers.another(settings=IN_BACKGROUND) as engine:
        tiers.engine = engine
        task_id = await chatty(engine)
        await tiers.release(task_id)
    return task_id


async def a_lost_task(tiers: Tiers) -> str:
    """Gone from the hot store without a word."""
    task_id = await a_hot_task(tiers)
    stored = await tiers.existing(task_id)
    assert await tiers.hot.release(task_id, stored.epoch, stored.last_index, stored.rev)
    return task_id


async def an_unarchived_task(tiers: Tiers) -> str:
    """Has news for the archive."""
    async with tiers.another(settings=BY_HAND) as engine:
        return await chatty(engine)


async def a_rewound_task(tiers: Tiers) -> str:
    """Has other events in the hot store than in the archive, and fewer."""
    task_id = await a_hot_task(tiers)
    stored = await tiers.existing(task_id)
    await tiers.hot.found_epoch(task_id, stored.epoch, stored.last_index - 8)
    async with tiers.another(settings=BY_HAND) as engine:
        await engine.publish_event(task_id, type="log", data={"grew": "anew"})
    return task_id


async def release(engine: TaskEngine, task_id: str) -> None:
    """Move it to the cold store."""
    stored = await engine.store.get(task_id)
    assert stored is not None
    await engine.release_task(task_id, stored.last_index, engine.now_ms())


async def write(engine: TaskEngine, task_id: str) -> None:
    """Publish, for which a cold task has to come back."""
    await engine.publish_event(task_id, type="log", data={"by": "the doomed"})


async def archive(engine: TaskEngine, task_id: str) -> None:
    """Wait until the archive has everything."""
    doomed_store = cast(Doomed, engine.store)

    async def has_all() -> bool:
        return doomed_store.doom.is_dead or bool(await doomed_store.store.has_passed(task_id))

    await eventually(has_all)


@frozen
class Scenario:
    """A state of a task, and what a process does with it that takes several calls to the stores.

    Attributes:
        added: events that the doomed process may have added although nobody was told so. calls: so many there are.
        is_as_archived: the log has to be what the archive has of it, in the end.
    """

    prepare: Callable[[Tiers], Awaitable[str]]
    act: Callable[[TaskEngine, str], Awaitable[None]]
    calls: int
    added: int = 0
    settings: EngineSettings = BY_HAND
    is_as_archived: bool = False

    async def run(self, tiers: Tiers, doom: Doom) -> bool:
        """Let a process perish at a point; whether there is such a point. All has to be well then."""
        task_id = await self.prepare(tiers)
        was = await (seen(tiers.cold, task_id) if self.is_as_archived else everything(tiers, task_id))
        has_died = await dies(doomed(tiers, doom, self.settings), lambda engine: self.act(engine, task_id), doom)
        await goes_on(tiers, task_id, was, added=self.added)
        return has_died

    async def run_all(self, tiers: Tiers, *, after: bool | None = None, stride: int = 1) -> None:
        """Perish at every point, or at every so-manieth; ``after`` the call, before it, or (None) by turns."""
        at = stride
        while await self.run(tiers, Doom(at=at, after=bool(at % 2) if after is None else after)):
            at += stride
        assert at > self.calls


SCENARIOS = {
    "release": Scenario(a_hot_task, release, calls=4),
    "restore": Scenario(a_cold_task, write, calls=7, added=1),
    "restore of a lost task": Scenario(a_lost_task, write, calls=6, added=1),
    "archive": Scenario(an_unarchived_task, archive, calls=8, settings=IN_BACKGROUND),
    "reconcile": Scenario(a_rewound_task, archive, calls=6, settings=IN_BACKGROUND, is_as_archived=True),
}


# ── A stalled one ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def stall_everywhere(tiers: Tiers, *, after: bool | None = None, stride: int = 1) -> None:
    """A node stalls at every point of a restore; a second one brings the task back, a third releases it once more."""
    at = stride
    while await _stall(tiers, Doom(at=at, after=bool(at % 2) if after is None else after, stalls=True)):
        at += stride
    assert at > 7


async def _stall(tiers: Tiers, doom: Doom) -> bool:
    task_id = await a_cold_task(tiers)
    was = await everything(tiers, task_id)
    async with doomed(tiers, doom) as first:
        writing = asyncio.ensure_future(write(first, task_id))
        striking = asyncio.ensure_future(doom.has_happened.wait())
        await asyncio.wait((writing, striking), return_when=asyncio.FIRST_COMPLETED)
        striking.cancel()
        if not doom.has_happened.is_set():
            await writing
            return False
        async with tiers.another(settings=IN_BACKGROUND) as second:
            index = await _published(second, task_id)
        async with tiers.another(settings=IN_BACKGROUND) as third:
            tiers.engine = third
            if await tiers.hot.get(task_id) is not None:
                await tiers.release(task_id)
            doom.may_go_on.set()
            # Whoever stalled may be told to come again; it must not write over what has happened meanwhile.
            told = await asyncio.gather(writing, return_exceptions=True)
    written = await everything(tiers, task_id)
    assert written.lines[: len(was.lines)] == was.lines
    added = written.lines[len(was.lines) :]
    assert [one[0] for one in added] == list(range(_last(was) + 1, _last(was) + 1 + len(added)))
    assert index in [one[0] for one in added]
    by_first = [one for one in added if b"the doomed" in one[3]]
    assert len(by_first) == (told == [None]), "written once if it was said to be, else not at all"
    await goes_on(tiers, task_id, written)
    return True
