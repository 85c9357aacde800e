"""From a configuration to a running engine; reads like the picture of the architecture, top to bottom."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from taskcast_core.archive import ArchiveSettings
from taskcast_core.config import Config, CoreSettings, load_config
from taskcast_core.contracts.followers import Deadlines, Followers
from taskcast_core.contracts.listing import Listing
from taskcast_core.contracts.task_log import LogLimits, TaskLog
from taskcast_core.deadlines import SweepSettings
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import PluginError
from taskcast_core.followers import Handler
from taskcast_core.instruments import Instruments
from taskcast_core.plugins import Plugins
from taskcast_core.retention import RetentionSettings
from taskcast_core.selection import Selected
from taskcast_core.settings import EngineSettings
from taskcast_core.workers import WorkerSettings

_log = logging.getLogger(__name__)

HOT_CONTRACTS = (TaskLog, Listing, Deadlines, Followers)
"""What every short-term store has to satisfy."""


@asynccontextmanager
async def open_engine(
    config: Config | str | os.PathLike[str] | None = None,
    plugins: Plugins | None = None,
    *,
    hooks: Sequence[object] = (),
    handlers: Sequence[Handler] = (),
    instruments: Instruments | None = None,
) -> AsyncIterator[TaskEngine]:
    """A running engine as the configuration describes it; closes what it opened, in reverse order.

    Args:
        config: loaded, or the path of a file; None searches the usual places.
        plugins: None discovers what is installed.
        hooks: further observers.
        handlers: followers of the log to run.
        instruments: what the engine is measured and traced with; None counts, and records no spans.

    Raises:
        ConfigError, PluginError: with the path and the installed choices. StoreUnavailable: a dependency is away.
    """
    plugins = plugins or Plugins()
    if not isinstance(config, Config):
        config = load_config(config, plugins=plugins)
    config = config.with_plugins(plugins)
    core = config.core
    async with AsyncExitStack() as stack:
        broadcast = await _open(stack, plugins.select("broadcast", config))
        short_term = await _open(stack, plugins.select("short_term_store", config))
        long_term = await _open(stack, plugins.select("long_term_store", config))
        check_contracts(short_term)
        if short_term.is_shared and not broadcast.is_shared:
            _log.warning(
                "the short-term store is shared by processes, the broadcast is not: readers on other processes "
                "see news about a second late"
            )
        engine = TaskEngine(
            broadcast=broadcast,
            short_term_store=short_term,
            long_term_store=long_term,
            hooks=[plugins.hooks, *core.hooks, *hooks],
            handlers=handlers,
            settings=engine_settings(core, has_long_term=long_term is not None),
            instruments=instruments,
        )
        yield await stack.enter_async_context(engine)


async def _open(stack: AsyncExitStack, selected: Selected | None) -> Any:
    return None if selected is None else await stack.enter_async_context(selected.open())


def check_contracts(store: object) -> None:
    """Refuse a short-term store that lacks a verb of the contracts that the engine needs.

    Raises:
        PluginError: naming contract and verbs.
    """
    for contract in HOT_CONTRACTS:
        missing = [verb for verb in verbs_of(contract) if not hasattr(store, verb)]
        if missing:
            lacks = f"it lacks {', '.join(missing)} of {contract.__name__}"
            raise PluginError(f"{type(store).__qualname__} is no short-term store: {lacks}")


def verbs_of(contract: type) -> list[str]:
    """The public names that a contract asks for, its bases' included."""
    return sorted({name for base in contract.__mro__[:-1] for name in vars(base) if not name.startswith("_")})


def engine_settings(core: CoreSettings, *, has_long_term: bool) -> EngineSettings:
    """The engine's bounds and rhythms from the configuration."""
    keep_s = 0 if has_long_term else core.cleanup.keep_ended_seconds
    lifecycle, limits = core.storage_lifecycle, core.limits
    release_s = lifecycle.hot_retention_terminal_seconds
    return EngineSettings(
        limits=LogLimits(
            max_events=limits.max_events_per_task,
            max_bytes=limits.max_bytes_per_task,
            max_series=limits.max_series_per_task,
            max_types=limits.max_event_types,
        ),
        sweep=SweepSettings(
            interval_s=lifecycle.ttl_sweep_interval_seconds,
            batch=lifecycle.ttl_sweep_batch_size,
            lease_ms=lifecycle.storage_lock_ttl_seconds * 1000,
        ),
        retention=RetentionSettings(
            core.cleanup.rules,
            keep_ended_ms=keep_s * 1000 or None,
            release_ended_ms=release_s * 1000 if has_long_term and lifecycle.hot_retention_enabled else None,
        ),
        archive=ArchiveSettings(
            keep_last=lifecycle.rehydrate_replay_events,
            keep_hot=lifecycle.hot_window_events or None,
            lease_ms=lifecycle.storage_lock_ttl_seconds * 1000,
        ),
        workers=worker_settings(core),
    )


def worker_settings(core: CoreSettings) -> WorkerSettings:
    """The rhythms of the worker layer from the configuration."""
    defaults = core.workers.defaults
    return WorkerSettings(
        enabled=core.workers.enabled,
        assign_mode=defaults.assign_mode,
        max_concurrent=core.workers.max_concurrent,
        max_concurrent_by_type=core.workers.max_concurrent_by_type,
        heartbeat_interval_ms=defaults.heartbeat_interval_ms,
        heartbeat_timeout_ms=defaults.heartbeat_timeout_ms,
        offer_timeout_ms=defaults.offer_timeout_ms,
        disconnect_policy=defaults.disconnect_policy,
        disconnect_grace_ms=defaults.disconnect_grace_ms,
        first_sign_ms=defaults.disconnect_grace_ms,
    )
