"""What all case classes share: their fixtures, a clean-up check, and the guard that keeps cases from vanishing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Protocol

import pytest

from taskcast_core.contracts import Cold, Deadlines, Followers, Listing, TaskLog, Workers
from taskcast_core.testing.clock import ManualClock

KIT = __name__.rpartition(".")[0]
LONG_MS = 600_000
"""A lease that does not end while a case runs."""


class HotStore(TaskLog, Listing, Deadlines, Followers, Cold, Workers, Protocol):
    """What a short-term store may be asked; a case uses what its contract and TaskLog offer."""


OpenAgain = Callable[[], AbstractAsyncContextManager[Any]]


class Clocked(Protocol):
    """Anything that knows the time of its backend."""

    def now_ms(self) -> int:
        """Unix milliseconds."""


class StoreTime:
    """The time of the store under test, driven by hand where the store allows it, else waited for.

    Attributes:
        brief_ms: a lease that a case is going to outlive. roomy_ms: likewise, after some calls within it.
    """

    def __init__(self, store: Clocked, clock: ManualClock | None) -> None:
        self._store, self.clock = store, clock
        self.brief_ms, self.roomy_ms = (30_000, 60_000) if clock else (120, 1_500)

    async def passes(self, ms: int) -> None:
        """Let so much of the store's time pass, and a little more."""
        if self.clock:
            self.clock.advance(ms + 1)
            return
        end = self._store.now_ms() + ms + 25  # a server's time is known to the client within some milliseconds
        while (left := end - self._store.now_ms()) > 0:  # noqa: ASYNC110 - a server's time has no event
            await asyncio.sleep(min(left, 50) / 1000)

    def steps(self, ms: int) -> None:
        """Set the wall clock; skips the case where the kit has no hand on it."""
        if self.clock is None:
            pytest.skip("the store's clock cannot be set")
        self.clock.step(ms)


class Contract:
    """Base of all case classes.

    Attributes:
        capability: the Protocol that is proved. promise: what the cases of a class prove, for the report.
        subject: the fixture that holds the object under test.
        case_deadline_s: a case that takes longer has failed (enforced by the kit's pytest plugin).
    """

    capability: ClassVar[str] = ""
    promise: ClassVar[str] = "the kit is used as it is meant to be"
    subject: ClassVar[str] = "store"
    case_deadline_s: ClassVar[float] = 60.0

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    @pytest.fixture(scope="session")
    @staticmethod
    def anyio_backend() -> str:
        """Taskcast runs on asyncio."""
        return "asyncio"

    @pytest.fixture
    def store(self) -> Any:
        """The object under test: opened, empty, and on its own (a fresh prefix, schema or directory)."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    def clock(self) -> ManualClock | None:
        """The clock that the store was opened with, if it takes one."""
        return None

    @pytest.fixture
    def open_again(self) -> OpenAgain | None:
        """Opens a second handle on the store's backend; None where one process owns it."""
        return None

    @pytest.fixture
    async def peers(self, store: Any, open_again: OpenAgain | None) -> AsyncIterator[Sequence[Any]]:
        """Two handles on one backend (where there can be but one: that one, twice)."""
        if open_again is None:
            yield (store, store)
            return
        async with open_again() as other:
            yield (store, other)

    @pytest.fixture
    def time(self, store: Clocked, clock: ManualClock | None) -> StoreTime:
        """The store's time."""
        return StoreTime(store, clock)

    @pytest.fixture(autouse=True)
    async def _leaves_no_task_behind(self) -> AsyncIterator[None]:
        before = asyncio.all_tasks()
        yield
        deadline = asyncio.get_running_loop().time() + 2
        while left := _of_the_case(asyncio.all_tasks() - before):
            assert asyncio.get_running_loop().time() < deadline, f"tasks left running: {left}"
            await asyncio.sleep(0.005)

    async def test_standard_cases_are_kept(self) -> None:
        """A case may be overridden only with ``xfail(reason=…)``, so that what a store cannot do stays visible."""
        lost = [name for name, why in overridden_cases(type(self)).items() if not why]
        assert not lost, f"overridden without xfail(reason=…): {', '.join(lost)}"


def overridden_cases(cls: type) -> dict[str, str]:
    """The kit's cases that a class has replaced, each with the reason its xfail mark gives (else an empty text)."""
    found: dict[str, str] = {}
    for base in cls.__mro__:
        if not base.__module__.startswith(KIT + "."):
            continue
        for name, case in vars(base).items():
            if name.startswith("test_") and callable(case) and name not in found:
                now = getattr(cls, name, None)
                if getattr(now, "__module__", "").startswith(KIT + "."):
                    continue
                found[name] = _xfail_reason(now)
    return found


def _xfail_reason(case: object) -> str:
    marks = getattr(case, "pytestmark", [])
    return next((str(mark.kwargs.get("reason", "")) for mark in marks if mark.name == "xfail"), "")


def _of_the_case(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Without the current task and those by which anyio's plugin runs tests and fixtures."""
    return {
        task
        for task in tasks - {asyncio.current_task()}
        if not getattr(task.get_coro(), "__qualname__", "").startswith("TestRunner.")
    }
