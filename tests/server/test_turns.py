"""Requests that share a task, and what each of them can rely on all the same."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, cast

import anyio
import pytest

from taskcast_server.exchange import Connection, Exchange
from taskcast_server.turns import Turns
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

Doing = Callable[[], Awaitable[Any]]


class Requests:
    """Requests to be done by turns, with the task that each found itself in, in the order in which they ended."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.turns = Turns(self.tasks)
        self.ended: list[tuple[str, asyncio.Task[Any] | None, BaseException | None]] = []

    def add(self, name: str, doing: Doing, method: str = "POST", *, is_whole: bool = True) -> None:
        exchange = Exchange(cast("Connection", None), method)
        exchange.is_whole = is_whole
        self.turns.add(exchange, method, self._do(name, doing, exchange), copy_context())

    async def _do(self, name: str, doing: Doing, exchange: Exchange) -> None:
        began_in, error = asyncio.current_task(), None
        try:
            await doing()
        except BaseException as raised:
            error = raised
        assert asyncio.current_task() is began_in
        self.ended.append((name, began_in, error))
        if exchange.task is not None:
            self.tasks.discard(exchange.task)

    async def all_ended(self) -> None:
        await eventually(lambda: not self.tasks and not len(self.turns))

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.ended]

    def task_of(self, wanted: str) -> asyncio.Task[Any] | None:
        return next(task for name, task, _ in self.ended if name == wanted)

    def error_of(self, wanted: str) -> BaseException | None:
        return next(error for name, _, error in self.ended if name == wanted)


async def nothing() -> None:
    pass


async def test_those_that_wait_for_nothing_share_a_task() -> None:
    requests = Requests()
    for name in "abc":
        requests.add(name, nothing)
    assert len(requests.turns) == 3 and len(requests.tasks) == 1 and not requests.ended
    await requests.all_ended()
    assert requests.names == ["a", "b", "c"]
    assert requests.task_of("a") is requests.task_of("b") is requests.task_of("c") is not None
    requests.add("d", nothing)
    await requests.all_ended()
    assert requests.names == ["a", "b", "c", "d"]


async def test_one_that_waits_keeps_its_task_and_holds_up_nobody() -> None:
    requests, may_go = Requests(), asyncio.Event()
    requests.add("a", nothing)
    requests.add("waits", may_go.wait)
    requests.add("b", nothing)
    requests.add("c", may_go.wait)
    await eventually(lambda: requests.names == ["a", "b"])
    may_go.set()
    await requests.all_ended()
    assert requests.names == ["a", "b", "waits", "c"]
    assert requests.task_of("waits") is requests.task_of("a")
    assert len({requests.task_of(name) for name in ("a", "b", "c")}) == 3


async def test_the_next_ones_of_its_method_have_tasks_of_their_own() -> None:
    requests = Requests()
    requests.add("waits", lambda: asyncio.sleep(0))
    await requests.all_ended()
    for name in "ab":
        requests.add(name, nothing)
    for name in "cd":
        requests.add(name, nothing, "GET")
    await requests.all_ended()
    assert requests.task_of("a") is not requests.task_of("b")
    assert requests.task_of("c") is requests.task_of("d")


async def test_one_whose_body_still_comes_is_told_apart() -> None:
    requests, may_go = Requests(), asyncio.Event()
    requests.add("a", may_go.wait, is_whole=False)
    for name in "bc":
        requests.add(name, nothing)
    await eventually(lambda: requests.names == ["b", "c"])
    assert requests.task_of("b") is requests.task_of("c")
    requests.add("d", nothing)
    assert len(requests.turns) == 1, "it shares again"
    may_go.set()
    await requests.all_ended()


async def test_deadlines_hold_from_the_first_step() -> None:
    async def asyncios() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(3600)

    async def anyios() -> None:
        with anyio.fail_after(0.01):
            await anyio.sleep(3600)

    async def groups() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))

    for doing in (asyncios, anyios):
        requests = Requests()  # one each, so that it is the first that waits
        requests.add("a", nothing)
        requests.add("late", doing)
        await requests.all_ended()
        assert isinstance(requests.error_of("late"), TimeoutError)
    requests = Requests()
    requests.add("group", groups)
    await requests.all_ended()
    assert requests.error_of("group") is None


async def test_a_cancelled_one_hears_of_it() -> None:
    requests = Requests()
    requests.add("waits", lambda: asyncio.sleep(3600))
    requests.add("b", nothing)
    await eventually(lambda: requests.names == ["b"])
    (task,) = requests.tasks
    task.cancel()
    await requests.all_ended()
    assert isinstance(requests.error_of("waits"), asyncio.CancelledError)


async def test_what_was_added_is_done_although_the_task_was_cancelled_before() -> None:
    requests = Requests()
    requests.add("a", nothing)
    (task,) = requests.tasks
    task.cancel()
    await eventually(task.done)
    requests.add("b", nothing)
    await requests.all_ended()
    assert requests.names == ["a", "b"]


async def test_each_has_a_context_of_its_own() -> None:
    seen: list[str] = []
    name: ContextVar[str] = ContextVar("name", default="nobody")

    async def tell(mine: str, *, waits: bool) -> None:
        seen.append(name.get())
        name.set(mine)
        if waits:
            await asyncio.sleep(0.01)
            assert await asyncio.create_task(_get(name)) == mine
        assert name.get() == mine

    requests = Requests()
    for mine, waits in (("a", False), ("b", False), ("c", True), ("d", False)):
        requests.add(mine, partial(tell, mine, waits=waits))
    await requests.all_ended()
    assert seen == ["nobody"] * 4
    assert all(error is None for *_, error in requests.ended)
    assert requests.task_of("a") is requests.task_of("b")


async def _get(name: ContextVar[str]) -> str:
    return name.get()
