"""Lifecycle observers: whatever one does, neither the caller nor another observer notices."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskcast_core import hookspecs
from taskcast_core.errors import PluginError
from taskcast_core.hookspecs import LIFECYCLE_HOOKS, PREFIX, hookimpl
from taskcast_core.observers import Emit, ObserverCounts, Observers
from taskcast_core.plugins import Plugins
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio

SIGNATURES = {name: list(inspect.signature(getattr(hookspecs, name)).parameters) for name in LIFECYCLE_HOOKS}
HOOKS = [name.removeprefix(PREFIX) for name in LIFECYCLE_HOOKS]


def arguments(hook: str) -> dict[str, object]:
    return {name: f"the {name}" for name in SIGNATURES[PREFIX + hook]}


def observer(hook: str, behaviour: Any, *, prefixed: bool = False) -> object:
    """An object with one method, named like the hook and with its exact arguments."""
    parameters = ", ".join(SIGNATURES[PREFIX + hook])
    call = "await self.behaviour" if asyncio.iscoroutinefunction(behaviour) else "return self.behaviour"
    keyword = "async def" if asyncio.iscoroutinefunction(behaviour) else "def"
    name = PREFIX + hook if prefixed else hook
    scope: dict[str, Any] = {}
    exec(f"{keyword} {name}(self, {parameters}):\n    {call}({parameters})", scope)
    return type("Seen", (), {name: scope[name], "behaviour": staticmethod(behaviour)})()


def emit(observers: Observers, hook: str) -> None:
    found = getattr(observers, hook)
    assert isinstance(found, Emit)
    found(**arguments(hook))


def total(observers: Observers, what: str) -> int:
    return sum(getattr(each, what) for each in observers.counts().values())


@pytest.fixture
async def opened() -> AsyncIterator[list[Observers]]:
    """Observers put in here are closed at the end."""
    made: list[Observers] = []
    yield made
    for each in made:
        await each.aclose(1.0)


def test_nobody_costs_nothing() -> None:
    observers = Observers()
    assert all(getattr(observers, hook) is None for hook in HOOKS)
    assert set(Observers.__annotations__) == set(HOOKS)


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
async def test_every_hook_reaches_sync_and_async_observers(hook: str, prefixed: bool, opened: list[Observers]) -> None:
    seen: list[tuple[object, ...]] = []

    async def behave(*given: object) -> None:
        seen.append(given)

    both = [
        observer(hook, behave, prefixed=prefixed),
        observer(hook, lambda *given: seen.append(given), prefixed=prefixed),
    ]
    observers = Observers(*both)
    opened.append(observers)
    emit(observers, hook)
    await eventually(lambda: total(observers, "delivered") == 2)
    assert seen == [tuple(arguments(hook).values())] * 2
    assert [each for each in HOOKS if getattr(observers, each)] == [hook]


def _raise(*_: object) -> None:
    raise RuntimeError("observer is broken")


async def _raise_async(*_: object) -> None:
    raise RuntimeError("observer is broken")


async def _cancel(*_: object) -> None:
    raise asyncio.CancelledError


def _exit(*_: object) -> None:
    sys.exit(3)


async def _exit_async(*_: object) -> None:
    sys.exit(3)


async def _hang(*_: object) -> None:
    await asyncio.Event().wait()


def _junk(*_: object) -> object:
    return object()


BAD = {
    "raises": (_raise, "failed"),
    "raises async": (_raise_async, "failed"),
    "cancels": (_cancel, "failed"),
    "exits": (_exit, "failed"),
    "exits async": (_exit_async, "failed"),
    "hangs": (_hang, "timed_out"),
    "returns junk": (_junk, "delivered"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_bad_observer_changes_nothing_for_anybody_else(hook: str, kind: str, opened: list[Observers]) -> None:
    behaviour, counter = BAD[kind]
    seen: list[object] = []

    async def good(*given: object) -> None:
        seen.append(given)

    limit_s = 0.02 if kind == "hangs" else 30
    observers = Observers(observer(hook, behaviour), observer(hook, good), timeout_s=limit_s)
    opened.append(observers)
    for _ in range(3):
        emit(observers, hook)
    await eventually(lambda: len(seen) == 3)
    await eventually(lambda: getattr(next(iter(observers.counts().values())), counter) == 3)
    assert total(observers, "pending") == 0


async def test_a_hanging_thread_stalls_only_its_own_observer(opened: list[Observers]) -> None:
    release = threading.Event()
    calls: list[str] = []
    seen: list[str] = []

    class Stuck:
        def task_deleted(self, task_id: str) -> None:
            calls.append(task_id)
            release.wait(10)

    class Fine:
        def task_deleted(self, task_id: str) -> None:
            seen.append(task_id)

    observers = Observers(Stuck(), Fine(), timeout_s=0.02, queue_size=5)
    opened.append(observers)
    assert observers.task_deleted
    for number in range(20):
        observers.task_deleted(task_id=f"t{number}")
        await eventually(lambda name=f"t{number}": name in seen)
    stuck = ObserverCounts(delivered=0, failed=0, timed_out=1, dropped=14, pending=5)
    await eventually(lambda: next(iter(observers.counts().values())) == stuck)
    assert calls == ["t0"]
    release.set()
    await eventually(lambda: calls == ["t0", "t15", "t16", "t17", "t18", "t19"])


async def test_calls_are_made_in_order_across_hooks_and_none_at_once(opened: list[Observers]) -> None:
    seen: list[str] = []
    running: list[int] = []

    class Mixed:
        async def task_released(self, task_id: str) -> None:
            running.append(1)
            await asyncio.sleep(0)
            seen.append(task_id)
            running.pop()

        def task_deleted(self, task_id: str) -> None:
            assert not running
            seen.append(task_id)

    observers = Observers(Mixed())
    opened.append(observers)
    assert observers.task_released
    assert observers.task_deleted
    for number in range(100):
        (observers.task_deleted if number % 3 else observers.task_released)(task_id=str(number))
    await eventually(lambda: len(seen) == 100)
    assert seen == [str(number) for number in range(100)]
    assert total(observers, "failed") == 0


async def test_a_full_queue_loses_its_oldest(opened: list[Observers]) -> None:
    seen: list[str] = []
    gate = asyncio.Event()

    class Slow:
        async def task_deleted(self, task_id: str) -> None:
            await gate.wait()
            seen.append(task_id)

    observers = Observers(Slow(), queue_size=10)
    opened.append(observers)
    assert observers.task_deleted
    for number in range(25):
        observers.task_deleted(task_id=str(number))
    assert next(iter(observers.counts().values())).pending == 10
    gate.set()
    await eventually(lambda: len(seen) == 10)
    assert seen == [str(number) for number in range(15, 25)]
    assert total(observers, "dropped") == 15


async def test_a_failure_is_logged_once_per_kind_and_always_counted(
    opened: list[Observers], caplog: pytest.LogCaptureFixture
) -> None:
    observers = Observers(observer("task_deleted", _raise))
    opened.append(observers)
    for _ in range(5):
        emit(observers, "task_deleted")
    await eventually(lambda: total(observers, "failed") == 5)
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    assert "observer is broken" in caplog.text


async def test_subsets_of_arguments_and_awaitables_from_plain_functions(opened: list[Observers]) -> None:
    seen: list[object] = []

    async def later(value: object) -> None:
        seen.append(value)

    class Few:
        def task_declined(self, blacklisted: bool) -> object:
            return later(blacklisted)

        def task_deleted(self) -> None:
            seen.append("deleted")

    observers = Observers(Few())
    opened.append(observers)
    assert observers.task_declined
    assert observers.task_deleted
    observers.task_declined(task="t", worker="w", blacklisted=True)
    observers.task_deleted(task_id="t")
    await eventually(lambda: seen == [True, "deleted"])


async def test_marked_methods_and_plugins_are_observers_too(opened: list[Observers]) -> None:
    seen: list[str] = []

    class Plugin:
        @hookimpl(specname="taskcast_task_deleted")
        def gone(self, task_id: str) -> None:
            seen.append(task_id)

    plugins = Plugins([Plugin()], discover=False).load()
    observers = Observers.of([plugins.hooks, Plugin()])
    opened.append(observers)
    emit(observers, "task_deleted")
    await eventually(lambda: seen == ["the task_id"] * 2)
    assert len(observers.counts()) == 2


def test_what_an_engine_accepts_as_hooks() -> None:
    one = observer("task_deleted", _junk)
    made = Observers(one)
    assert Observers.of(made) is made
    assert Observers.of(None).task_deleted is None
    assert Observers.of(one).task_deleted
    assert len(Observers.of((one, one)).counts()) == 1


@pytest.mark.parametrize("names", [["task_creatd"], ["taskcast_task_creatd", "task_created"]])
def test_objects_that_observe_nothing_or_a_misspelt_hook_are_refused(names: list[str]) -> None:
    with pytest.raises(PluginError, match="hook"):
        Observers(type("Typo", (), {name: lambda self: None for name in names})())


def test_arguments_that_the_hook_does_not_have_are_refused() -> None:
    class Wrong:
        def task_deleted(self, task: object) -> None: ...

    with pytest.raises(PluginError, match="task"):
        Observers(Wrong())


async def test_closing_makes_the_waiting_calls() -> None:
    seen: list[str] = []
    observers = Observers(observer("task_deleted", seen.append))
    for _ in range(50):
        emit(observers, "task_deleted")
    await observers.aclose(5.0)
    assert len(seen) == 50
    emit(observers, "task_deleted")
    assert total(observers, "dropped") == 1
    await eventually(lambda: not [each for each in threading.enumerate() if "taskcast observer" in each.name])


async def test_closing_gives_up_at_the_deadline() -> None:
    release = threading.Event()

    async def stubborn(*_: object) -> None:
        await asyncio.Event().wait()

    observers = Observers(observer("task_deleted", stubborn), observer("task_released", lambda *_: release.wait(30)))
    for _ in range(4):
        emit(observers, "task_deleted")
        emit(observers, "task_released")
    started = time.perf_counter()
    await observers.aclose(0.2)
    assert 0.15 < time.perf_counter() - started < 15
    assert [(each.delivered, each.timed_out, each.dropped, each.pending) for each in observers.counts().values()] == [
        (0, 1, 3, 0),
        (0, 1, 3, 0),
    ]
    release.set()


def test_emitting_without_a_loop_breaks_nothing() -> None:
    observers = Observers(observer("task_deleted", _junk))
    emit(observers, "task_deleted")
    assert total(observers, "dropped") == 1
