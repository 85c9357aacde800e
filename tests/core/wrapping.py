"""Stores and broadcasts that are real, but slow, away or unreliable where a test wants them to be."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any

from taskcast_core import contracts
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.contracts.broadcast import Bell

_AWAITED = {
    name
    for contract in (getattr(contracts, each) for each in contracts.__all__)
    if getattr(contract, "_is_protocol", False)
    for name, verb in vars(contract).items()
    if inspect.iscoroutinefunction(verb)
}


def is_awaited(name: str, verb: object) -> bool:
    """Whether a store's attribute is a verb that is awaited, also where it hands on the coroutine of another."""
    return inspect.iscoroutinefunction(verb) or (name in _AWAITED and callable(verb))


Around = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class WrappedStore:
    """A store of which single verbs are wrapped: ``around[verb]`` is handed the real call and awaits it, or not."""

    def __init__(self, store: Any, **around: Around) -> None:
        self.store, self.around = store, around
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if not is_awaited(name, real):
            return real

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            around = self.around.get(name)
            if around is None:
                return await real(*args, **kwargs)
            return await around(lambda: real(*args, **kwargs))

        return call


class UnreliableBroadcast(MemoryBroadcastProvider):
    """Loses, repeats and reorders bells, as a broker may."""

    is_shared = True

    def __init__(self, rng: random.Random, *, lost: float = 0.3, repeated: float = 0.2, late: float = 0.4) -> None:
        super().__init__()
        self._rng, self._lost, self._repeated, self._late = rng, lost, repeated, late

    def publish(self, bell: Bell) -> None:
        if self._rng.random() < self._lost:
            return
        for _ in range(1 + (self._rng.random() < self._repeated)):
            if self._rng.random() < self._late:
                asyncio.get_running_loop().call_later(self._rng.random() * 0.005, super().publish, bell)
            else:
                super().publish(bell)


class BareBroadcast(MemoryBroadcastProvider):
    """Carries bells without their entries, as if all of them were too large."""

    def publish(self, bell: Bell) -> None:
        from attrs import evolve

        super().publish(evolve(bell, entries=()))
