"""Engine and store against a dictionary of lists, step by step."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from taskcast_core import states
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.contracts.task_log import TrimRule
from taskcast_core.engine import EngineSettings, TaskEngine
from taskcast_core.errors import IdempotencyConflict, InvalidTransition, ReplyExpired, TaskEnded, TaskNotFound
from taskcast_core.models import Cursor, Event, SubscribeFilter, TaskStatus
from taskcast_core.testing import ManualClock
from tests.core.oracle import Log, accumulates, frame_of
from tests.core.stores import open_store
from tests.fixtures.scale import FULL_SCALE

TEXT = st.sampled_from(["", "a", "bc", "\N{GRINNING FACE}", "\ud83d", "\x00"])
DRAFT = st.one_of(
    st.builds(
        lambda text, series, level: {
            "type": "llm.delta", "level": level, "data": {"delta": text},
            "seriesId": series, "seriesMode": "accumulate",
        },
        TEXT, st.sampled_from("st"), st.sampled_from(["info", "debug"]),
    ),
    st.builds(
        lambda n: {"type": "tool", "level": "info", "data": n, "seriesId": "p", "seriesMode": "latest"},
        st.integers(),
    ),
    st.builds(
        lambda type_, data: {"type": type_, "level": "warn", "data": data}, st.sampled_from("xy"), TEXT | st.none()
    ),
)  # fmt: skip
FILTER = st.sampled_from(
    [
        SubscribeFilter(),
        SubscribeFilter(types=("llm.*", "x")),
        SubscribeFilter(levels=("info",), include_status=False, series_format="accumulated"),
    ]
)


class Model:
    """What one task has to be."""

    def __init__(self) -> None:
        self.status: TaskStatus = "pending"
        self.log = Log([])
        self.replies: dict[str, tuple[Any, list[Event]]] = {}


class EngineMachine(RuleBasedStateMachine):
    """Random lives of a few tasks; after each step every task is compared."""

    kind: ClassVar[str]
    tasks = Bundle("tasks")

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.stack = AsyncExitStack()
        self.clock = ManualClock()
        self.models: dict[str, Model] = {}
        self.gone: set[str] = set()
        self.run(self._open())

    async def _open(self) -> None:
        await self.stack.__aenter__()
        store = await self.stack.enter_async_context(open_store(self.kind, self.directory, self.clock))
        self.store = store
        engine = TaskEngine(
            broadcast=MemoryBroadcastProvider(),
            short_term_store=store,
            clock=self.clock,
            settings=EngineSettings(background=False),
        )
        self.engine = await self.stack.enter_async_context(engine)

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    # ── Steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(target=tasks)
    def create(self) -> str:
        task_id: str = self.run(self.engine.create_task(type="t")).id
        self.models[task_id] = Model()
        return task_id

    @rule(task_id=tasks, to=st.sampled_from(states.ALL), result=st.none() | st.just({"r": None}))
    def transition(self, task_id: str, to: TaskStatus, result: Any) -> None:
        model = self.models[task_id]
        change = self.engine.transition_task(task_id, to, result=result)
        if to not in states.ALLOWED[model.status]:
            with pytest.raises(InvalidTransition):
                self.run(change)
            return
        assert self.run(change).status == to
        model.status = to
        self.adopt_tail(task_id)

    @rule(task_id=tasks, drafts=st.lists(DRAFT, min_size=1, max_size=4), key=st.none() | st.sampled_from("kl"))
    def publish(self, task_id: str, drafts: list[dict[str, Any]], key: str | None) -> None:
        model = self.models[task_id]
        publication = self.engine.publish_events(task_id, drafts, idempotency_key=key)
        known = model.replies.get(key) if key else None
        if known is not None:
            if known[0] != drafts:
                with pytest.raises(IdempotencyConflict):
                    self.run(publication)
            elif {event.index for event in known[1]} & (model.log.trimmed | model.log.replaced()):
                with pytest.raises(ReplyExpired):
                    self.run(publication)
            else:
                assert plain(self.run(publication)) == plain(known[1])
            return
        if model.status in states.TERMINAL:
            with pytest.raises(TaskEnded):
                self.run(publication)
            return
        events = self.run(publication)
        assert [event.index for event in events] == [len(model.log.events) + n for n in range(len(drafts))]
        assert [event.data for event in events] == [draft["data"] for draft in drafts]
        model.log.events += events
        if key:
            model.replies[key] = (drafts, events)

    @rule(task_id=tasks, levels=st.sampled_from([("debug",), ("warn",), None]))
    def trim(self, task_id: str, levels: Any) -> None:
        """Cleanup is for ended tasks only."""
        model = self.models[task_id]
        if model.status not in states.TERMINAL:
            return
        log = model.log
        trim = TrimRule(levels=levels, keep_series_ends=levels is not None)
        newest = {e.series_id: e.index for e in log.events if e.series_id}
        kept = set(newest.values()) if trim.keep_series_ends else set()
        doomed = {e.index for e in log.events if (levels is None or e.level in levels) and e.index not in kept}
        doomed -= log.trimmed | log.replaced()
        stored = self.run(self.store.get(task_id))
        assert self.run(self.store.trim(task_id, stored.epoch, trim)) == len(doomed)
        log.trimmed |= doomed

    @rule(task_id=consumes(tasks))
    def delete(self, task_id: str) -> None:
        self.run(self.engine.delete_task(task_id))
        del self.models[task_id]
        self.gone.add(task_id)

    @rule(ms=st.integers(0, 90_000))
    def time_passes(self, ms: int) -> None:
        self.clock.advance(ms)
        self.run(self.engine.sweeper.sweep())

    @rule(step=st.integers(-5_000, 5_000))
    def clock_steps(self, step: int) -> None:
        self.clock.step(step)

    @rule(task_id=tasks, wanted=FILTER, cut=st.integers(0, 30), data=st.data())
    def read(self, task_id: str, wanted: SubscribeFilter, cut: int, data: st.DataObject) -> None:
        """A replay from the start or from somewhere is what the whole list says."""
        log = self.models[task_id].log
        head = len(log.events) - 1
        if log.events and cut <= head:
            event = log.events[cut]
            since = data.draw(st.sampled_from([Cursor(id=event.id), Cursor(index=event.index)]))
            wanted = SubscribeFilter(since, wanted.types, wanted.levels, wanted.include_status, True,
                                     wanted.series_format, "snapshot")  # fmt: skip
        frames = self.run(self._frames(task_id, wanted, head))
        log.check(frames, wanted, head)

    async def _frames(self, task_id: str, wanted: SubscribeFilter, head: int) -> list[Any]:
        frames: list[Any] = []
        async with asyncio.timeout(5), self.engine.subscribe(task_id, wanted) as subscription:
            channel = subscription._channel
            assert channel is not None
            while subscription._place.after < head or subscription._pending_gap is not None:
                batch = await subscription._next(channel)
                assert batch is not None
                frames += [frame_of(delivery) for delivery in batch.deliveries]
        return frames

    # ── Truths ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def adopt_tail(self, task_id: str) -> None:
        """Take over the events that a transition has made, which the model does not foresee."""
        log = self.models[task_id].log
        known = log.events[-1].index if log.events else -1
        made = self.run(self.engine.get_history(task_id, since=Cursor(index=known) if known >= 0 else None))
        assert made[0].type == "taskcast:status"
        log.events += made

    @invariant()
    def all_tasks_are_as_the_model_says(self) -> None:
        if not hasattr(self, "engine"):
            return
        listed = self.run(self.engine.list_tasks()).tasks
        assert {task.id: task.status for task in listed} == {name: one.status for name, one in self.models.items()}
        for task_id, model in self.models.items():
            log = model.log
            gone = log.trimmed | log.replaced()
            history = self.run(self.engine.get_history(task_id))
            assert plain(history) == plain([event for event in log.events if event.index not in gone])
            stamps = [event.timestamp for event in log.events]
            assert stamps == sorted(stamps)
            for event in history:
                if accumulates(event) and event.series_id:
                    total = self.run(self.store.fold(task_id, event.series_id, event.index))
                    assert whole(total["delta"]) == whole(log.total(event)["delta"])
        for task_id in self.gone:
            with pytest.raises(TaskNotFound):
                self.run(self.engine.get_history(task_id))


def whole(text: str) -> str:
    """A text with its surrogate pairs made whole, as JSON has it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def plain(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(e.id, e.index, e.timestamp, e.type, e.level, e.data, e.series_id, e.series_mode) for e in events]


class MemoryMachine(EngineMachine):
    kind = "memory"


class SqliteMachine(EngineMachine):
    kind = "sqlite"


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=300 if FULL_SCALE else 25, stateful_step_count=30)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(max_examples=100 if FULL_SCALE else 8, stateful_step_count=30)
