"""The part of the configuration that the engine itself reads, as a tree of attrs classes with its defaults.

``heartbeatIntervalMs`` in a file is ``heartbeat_interval_ms`` here. Defaults and variables are those of the
wire spec.
"""

from __future__ import annotations

from typing import Any, Literal

from taskcast_core.config.environment import Surroundings
from taskcast_core.config.nodes import Leaf
from taskcast_core.config.options import Expected, option
from taskcast_core.config.reading import Options, Scene
from taskcast_core.models import AssignMode, CleanupRule, DisconnectPolicy
from taskcast_core.values import frozen

LogLevel = Literal["debug", "info", "warn", "error"]


def _name_or_object(_instance: object, _attribute: object, leaf: Leaf | None) -> None:
    if leaf is not None and isinstance(leaf.value, int | float | list | dict):
        raise Expected("the name of a provider")


def _live_objects(_instance: object, _attribute: object, hooks: tuple[object, ...]) -> None:
    if any(isinstance(each, str | int | float | list | dict | None) for each in hooks):
        raise Expected("a list of live objects (from a Python configuration)")


def _name(_instance: object, _attribute: object, leaf: Leaf | None) -> None:
    if leaf is not None and not isinstance(leaf.value, str):
        raise Expected("the name of a provider")


def _positive_bounds(_instance: object, _attribute: object, bounds: dict[str, int]) -> None:
    if any(most < 1 for most in bounds.values()):
        raise Expected("at least 1 for each pattern")


@frozen
class Adapter:
    """One replaceable part: a provider by name with its options, or (in a Python configuration) a live
    object.

    ``redis``, ``{provider: redis, url: …}``, a store instance and ``{"provider": instance}`` are all
    accepted.

    Attributes:
        provider: as given, with its origin; None if nobody named one.
        options: the keys beside ``provider``, read by the provider's own options class.
    """

    provider: Leaf | None = option(None, shorthand=True, validator=_name_or_object, help="which plugin to use")
    options: Options = option(extras=True, factory=lambda: Options(None, "", Scene(Surroundings())))

    @property
    def name(self) -> str | None:
        """The provider's name, unless there is none or it is a live object."""
        return self.provider.value if self.provider and isinstance(self.provider.value, str) else None

    @property
    def live(self) -> object | None:
        """The live object, if that is what was given."""
        return None if self.provider is None or isinstance(self.provider.value, str) else self.provider.value


@frozen
class Adapters:
    """Which plugins carry the engine; ``shortTerm`` and ``longTerm`` are accepted as older spellings."""

    broadcast: Adapter = option(factory=Adapter)
    short_term_store: Adapter = option(factory=Adapter, aliases=("shortTerm", "short_term"))
    long_term_store: Adapter = option(factory=Adapter, aliases=("longTerm", "long_term"))


@frozen
class Cleanup:
    """Cleanup rules for every task, besides its own, and what happens to tasks that no rule is for."""

    rules: tuple[CleanupRule, ...] = option(())
    keep_ended_seconds: int = option(
        30 * 86400, minimum=0, help="ended tasks go after so long, unless a long-term store keeps them; 0: never"
    )


@frozen
class StorageLifecycle:
    """When finished tasks leave the hot store, and how often deadlines are looked at. All bounds are
    positive.
    """

    hot_retention_enabled: bool = option(
        default=False,
        env="TASKCAST_HOT_RETENTION_ENABLED",
        help="release finished tasks to the long-term store by themselves",
    )
    hot_retention_terminal_seconds: int = option(
        86400, env="TASKCAST_HOT_RETENTION_TERMINAL_SECONDS", minimum=1, help="how long after their end"
    )
    hot_retention_idle_seconds: int = option(
        3600,
        env="TASKCAST_HOT_RETENTION_IDLE_SECONDS",
        minimum=1,
        help="without effect, kept for configurations of the reference: a release that is refused is not tried again",
    )
    rehydrate_replay_events: int = option(
        1000, env="TASKCAST_REHYDRATE_REPLAY_EVENTS", minimum=1, help="events that come back to the hot store"
    )
    hot_window_events: int = option(
        10_000,
        env="TASKCAST_HOT_WINDOW_EVENTS",
        minimum=0,
        help="archived events of a task that stay in the hot store, about; 0: all of them",
    )
    storage_lock_ttl_seconds: int = option(
        30, env="TASKCAST_STORAGE_LOCK_TTL_SECONDS", minimum=1, help="lease of one move or one claim"
    )
    ttl_sweep_interval_seconds: int = option(
        5, env="TASKCAST_TTL_SWEEP_INTERVAL_SECONDS", minimum=1, help="how often deadlines are looked at"
    )
    ttl_sweep_batch_size: int = option(100, env="TASKCAST_TTL_SWEEP_BATCH_SIZE", minimum=1, help="how many at a time")


@frozen
class WorkerDefaults:
    """What holds for workers and tasks that do not say otherwise."""

    assign_mode: AssignMode = option("external")
    heartbeat_interval_ms: int = option(30_000, minimum=1, help="time between two pings")
    heartbeat_timeout_ms: int = option(90_000, minimum=1, help="silence after which a worker is offline")
    offer_timeout_ms: int = option(10_000, minimum=1, help="how long an offer stands")
    disconnect_policy: DisconnectPolicy = option("reassign")
    disconnect_grace_ms: int = option(30_000, minimum=1, help="how long a lost worker may take to come back")


@frozen
class Workers:
    """The worker layer; off unless enabled."""

    enabled: bool = option(default=False)
    max_concurrent: int | None = option(None, minimum=1, help="tasks in workers' hands at a time, over all nodes")
    max_concurrent_by_type: dict[str, int] = option(
        factory=dict, validator=_positive_bounds, help="the same for types that match a pattern"
    )
    defaults: WorkerDefaults = option(factory=WorkerDefaults)


@frozen
class Limits:
    """Bounds of one task that the engine keeps. The server adds its own (body size, batch, rates) to this
    section.
    """

    max_events_per_task: int = option(5_000_000, minimum=1)
    max_bytes_per_task: int = option(1 << 30, minimum=1, help="event data, as JSON text")
    max_series_per_task: int = option(10_000, minimum=1)
    max_event_types: int = option(1000, minimum=1, help="distinct types of one task's events")


@frozen
class CoreSettings:
    """The top-level keys of the engine.

    Attributes:
        storage: short-term store and broadcast in one word; from a flag or the environment it overrides
        ``adapters``.
        plugins: distributions or entry points that may be loaded; None allows all that are installed.
        hooks: live observer objects (Python configuration only).
    """

    log_level: LogLevel = option("info", env="TASKCAST_LOG_LEVEL")
    storage: Leaf | None = option(None, env="TASKCAST_STORAGE", validator=_name)
    adapters: Adapters = option(factory=Adapters)
    cleanup: Cleanup = option(factory=Cleanup)
    storage_lifecycle: StorageLifecycle = option(factory=StorageLifecycle)
    workers: Workers = option(factory=Workers)
    limits: Limits = option(factory=Limits)
    plugins: tuple[str, ...] | None = option(None)
    hooks: tuple[Any, ...] = option((), validator=_live_objects)
