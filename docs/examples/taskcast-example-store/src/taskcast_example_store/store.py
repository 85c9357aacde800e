"""Core's memory store, of which every changing call is written down before it is made.

What a commit means is defined in `taskcast_core.machine.apply`, a pure function. Core's memory store is that machine
with tables around it, and what its calls do depends on the calls before, the time and some noise alone. So a file of
calls, each with its time and the seed of its noise, is the whole store: to open it is to make the calls again.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_type_hints

from taskcast_core import MemoryShortTermStore, portable, wire
from taskcast_core.clock import Clock
from taskcast_core.contracts import Cold, Deadlines, Followers, Listing, TaskLog, Workers
from taskcast_core.errors import TaskcastError
from taskcast_example_store.journal import Journal

READING = {
    *("get", "heads", "list", "tally", "has_passed", "backlog", "dead_letters", "next_due"),
    *("get_worker", "list_workers", "assignments", "queue"),
    *("due", "expired"),  # they hide what they give for a while; after a restart it is given again
}
"""Verbs that need not be written down. What a later version of the contracts adds is, until it is named here."""


class Moment(Clock):
    """The time and the noise of the call that is being made; between calls the time of ``clock``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.held: int | None = None
        self.noise = random.Random()

    def now_ms(self) -> int:
        return self._clock.now_ms() if self.held is None else self.held


class JournalStore(MemoryShortTermStore):
    """All contracts of a short-term store, for one process. Memory holds everything, and the file only grows."""

    def __init__(self, path: Path, *, fsync: bool = False, clock: Clock | None = None) -> None:
        self._moment = Moment(clock or Clock())
        super().__init__(self._moment, self._moment.noise.randbytes)
        self._journal = Journal(path, fsync=fsync)
        self.durability = f"in a file of one process; survives {'a power cut' if fsync else 'a kill'}"

    async def __aenter__(self) -> Self:
        try:
            for line in self._journal.open():
                await self._make_again(*wire.loads(line))
        except BaseException:
            self._journal.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()

    async def _make_again(self, at: int, seed: int, verb: str, plain: dict[str, Any]) -> None:
        arguments = {name: portable.of_plain(value, _kinds(verb)[name]) for name, value in plain.items()}
        try:
            await self._make(at, seed, verb, arguments)
        except TaskcastError:
            return  # it was refused the first time, too

    async def _write_and_make(self, verb: str, arguments: dict[str, Any]) -> Any:
        if verb == "claim_dirty" and not (await self.backlog(arguments["kind"])).lanes:
            return ()  # asked several times a second, mostly for nothing
        at, seed = self.now_ms(), int.from_bytes(os.urandom(6), "big")
        plain = {name: portable.to_plain(value, _kinds(verb)[name]) for name, value in arguments.items()}
        self._journal.append(wire.dumps([at, seed, verb, plain]))
        return await self._make(at, seed, verb, arguments)

    async def _make(self, at: int, seed: int, verb: str, arguments: dict[str, Any]) -> Any:
        """The memory store's own call. It awaits nothing, so nobody else lives in the moment that is held."""
        self._moment.held = at
        self._moment.noise.seed(seed)
        try:
            return await getattr(super(), verb)(**arguments)
        finally:
            self._moment.held = None


@cache
def _kinds(verb: str) -> dict[str, Any]:
    return get_type_hints(getattr(MemoryShortTermStore, verb))


def _journalled(verb: str) -> Callable[..., Awaitable[Any]]:
    signature = inspect.signature(getattr(MemoryShortTermStore, verb))

    async def call(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        return await arguments.pop("self")._write_and_make(verb, dict(arguments))

    return call


for _contract in (TaskLog, Listing, Deadlines, Followers, Cold, Workers):
    for _verb in vars(_contract).keys() - READING:
        if inspect.iscoroutinefunction(getattr(_contract, _verb)):
            setattr(JournalStore, _verb, _journalled(_verb))
