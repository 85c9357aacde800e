"""What has to be asked for: of the stores, of the workers, of the dependencies.

Asking is bounded in time, and answers are kept for a few seconds, so that many scrapers cost no more than one. What
cannot be found out is left out: a figure that is missing raises an alarm, a wrong zero does not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import field

from taskcast_core.contracts.followers import Backlog, FollowerKind
from taskcast_core.errors import StoreUnavailable
from taskcast_core.models import AssignMode, TaskStatus, Worker
from taskcast_core.values import define, frozen
from taskcast_core.workers import is_worker_store
from taskcast_server.dependencies import DependencyState

if TYPE_CHECKING:
    from taskcast_server.services import Services

T = TypeVar("T")

_log = logging.getLogger(__name__)

FRESH_S = 5.0
"""How old an answer may be."""
WITHIN_S = 2.0
"""How long asking may take."""
COUNTED = 1000
"""Queued tasks and dead letters are counted up to here."""
_WORKER_MODES: frozenset[AssignMode] = frozenset({"pull", "ws-offer", "ws-race"})

Tally = Mapping[tuple[str | None, TaskStatus], int]


@frozen
class Asked:
    """The answers; None, or left out: not to be had just now.

    Attributes:
        tally: tasks in the short-term store. queued: tasks that wait for a worker.
    """

    tally: Tally | None = None
    backlogs: Mapping[FollowerKind, Backlog] = field(factory=dict)
    dead_letters: int | None = None
    workers: Sequence[Worker] | None = None
    queued: int | None = None
    dependencies: Mapping[str, DependencyState] = field(factory=dict)


@define(eq=False)
class Figures:
    """Asks, and remembers for a while."""

    _services: Services
    _asked: Asked = field(factory=Asked)
    _stale_at: float = 0.0
    _asking: asyncio.Task[Asked] | None = None

    async def now(self) -> Asked:
        """The answers, at most some seconds old; those who want them at one time wait for one asking."""
        if time.monotonic() >= self._stale_at:
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask())
            await asyncio.shield(self._asking)
        return self._asked

    async def _ask(self) -> Asked:
        try:
            self._asked = await ask(self._services)
            self._stale_at = time.monotonic() + FRESH_S
            return self._asked
        finally:
            self._asking = None


async def ask(services: Services) -> Asked:
    """Ask everybody, side by side."""
    store = services.engine.store
    async with asyncio.TaskGroup() as group:
        dependencies = group.create_task(services.dependencies.look())
        tally = group.create_task(_within(store.tally()))
        letters = group.create_task(_within(store.dead_letters(COUNTED)))
        workers = group.create_task(_within(_workers(services)))
        queued = group.create_task(_within(_queued(services)))
        kinds = follower_kinds(services)
        backlogs = {kind: group.create_task(_within(store.backlog(kind))) for kind in kinds}
    given = letters.result()
    return Asked(
        tally=tally.result(),
        backlogs={kind: backlog for kind, task in backlogs.items() if (backlog := task.result()) is not None},
        dead_letters=None if given is None else len(given),
        workers=workers.result(),
        queued=queued.result(),
        dependencies=dependencies.result(),
    )


def follower_kinds(services: Services) -> list[FollowerKind]:
    """Who follows the logs here."""
    kinds: list[FollowerKind] = []
    if services.webhooks is not None:
        kinds.append("webhook")
    if services.engine.long_term_store is not None:
        kinds.append("archive")
    return kinds


async def _within(asked: Coroutine[Any, Any, T]) -> T | None:
    try:
        async with asyncio.timeout(WITHIN_S):
            return await asked
    except (StoreUnavailable, TimeoutError) as error:
        _log.debug("a figure is missing: %s", error)
        return None


async def _workers(services: Services) -> Sequence[Worker] | None:
    layer = services.engine.workers
    return None if layer is None else await layer.roster.all()


async def _queued(services: Services) -> int | None:
    store = services.engine.store
    if services.engine.workers is None or not is_worker_store(store):
        return None
    return len(await store.queue(_WORKER_MODES, COUNTED))
