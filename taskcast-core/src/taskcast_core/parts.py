"""What an engine is made of, put together: each part is given those it works with."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from taskcast_core.archiver import Archiver
from taskcast_core.background import Background
from taskcast_core.clock import Clock
from taskcast_core.commits import Commits
from taskcast_core.contracts.broadcast import Broadcast
from taskcast_core.contracts.hot_store import ShortTermStore, is_cold_capable
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.task_log import Stored, TimerKind
from taskcast_core.deadlines import Action, Sweeper
from taskcast_core.errors import PluginError
from taskcast_core.followers import Follower, Handler
from taskcast_core.hub import Hub
from taskcast_core.ids import new_ulid
from taskcast_core.instruments import Instruments
from taskcast_core.lifecycle import Lifecycle
from taskcast_core.models import Task
from taskcast_core.observers import Observers
from taskcast_core.settings import EngineSettings
from taskcast_core.storage import Storage
from taskcast_core.transfer import Transfers
from taskcast_core.workers import WorkerLayer, is_worker_store


class Parts:
    """The parts of one engine.

    Raises:
        PluginError: workers are enabled, and the store keeps none.
    """

    def __init__(
        self,
        hot: ShortTermStore,
        cold: LongTermStore | None,
        broadcast: Broadcast,
        observers: Observers,
        handlers: Sequence[Handler],
        settings: EngineSettings,
        clock: Clock,
        instruments: Instruments,
    ) -> None:
        self._settings = settings
        self._node = new_ulid(clock.now_ms())
        self.storage = Storage(hot, cold, observers, settings.archive)
        self.hub = Hub(hot, self.storage.reader, broadcast, self._find, settings.hub, observers)
        self.hub.meters = instruments.meters
        self.handlers = (*self._archivers(), *handlers)
        self.followers = [self._follower(handler, observers) for handler in self.handlers]
        self.commits = Commits(hot, self.hub, broadcast, observers, self.followers, self.storage.rehydrate, instruments)
        self.lifecycle = Lifecycle(
            hot,
            hot,
            hot,
            cold,
            self.commits,
            observers,
            follower_kinds=[handler.kind for handler in self.handlers],
            retention_settings=settings.retention,
            limits=settings.limits,
            expect=self._expect,
            moved=self._moved,
            meters=instruments.meters,
        )
        self.sweeper = Sweeper(hot, cold, clock, self._actions(), settings.sweep, observers)
        self.workers = self._worker_layer(observers, broadcast) if settings.workers.enabled else None
        self.transfers = Transfers(self.storage, self.commits, self.lifecycle)
        self.background = Background(
            self.hub,
            observers,
            self.lifecycle,
            self.sweeper,
            self.followers,
            self.workers,
            is_working=settings.background,
        )

    def _archivers(self) -> Sequence[Handler]:
        hot, cold = self.storage.hot, self.storage.cold
        if cold is None:
            return ()
        return (Archiver(hot, cold, hot if is_cold_capable(hot) else None, self._settings.archive),)

    def _follower(self, handler: Handler, observers: Observers) -> Follower:
        settings = self._settings.follower
        if handler.kind == "archive":
            settings = evolve(settings, page=self._settings.archive.page)
        hot = self.storage.hot
        return Follower(hot, self.storage.reader, hot, handler, self._node, observers, settings)

    def _actions(self) -> dict[TimerKind, Action]:
        return {
            "ttl": self.lifecycle.on_ttl,
            "resume": self.lifecycle.on_resume,
            "cleanup": self.lifecycle.on_cleanup,
            "purge": self.lifecycle.on_purge,
            "retry": self.lifecycle.on_retry,
            "cold": self.storage.on_cold,
        }

    def _worker_layer(self, observers: Observers, broadcast: Broadcast) -> WorkerLayer:
        store = self.storage.hot
        if not is_worker_store(store):
            raise PluginError(f"{type(store).__qualname__} keeps no workers; set workers.enabled: false")
        return WorkerLayer(
            store,
            self.commits.current,
            self.lifecycle.move,
            self.storage.cold,
            observers,
            self.hub,
            broadcast,
            self._settings.workers,
            self._node,
        )

    # ── Between parts ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _find(self, task_id: str) -> Stored | None:
        # By way of this object, so that whoever holds the hub (a reader, a broadcast) holds the engine that is open.
        return await self.storage.find(task_id)

    def _expect(self, in_ms: int) -> None:
        self.sweeper.expect(in_ms)

    async def _moved(self, before: Task | None, after: Task) -> None:
        if self.workers is not None:
            await self.workers.moved(before, after)
