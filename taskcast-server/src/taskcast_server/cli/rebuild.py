"""``taskcast rebuild``: all live tasks at once back into a short-term store that has lost them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskcast_server.cli.flags import ConfigOption, DbPathOption, OutputOption, StorageOption
from taskcast_server.cli.output import CliError, OutputFormat, tell, tell_json

if TYPE_CHECKING:
    from taskcast_core.archive import Rebuilt
    from taskcast_server.cli.loading import Loaded

MEMORY = "memory"


def rebuild(
    config: ConfigOption = None,
    storage: StorageOption = None,
    db_path: DbPathOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Bring all live tasks back from the long-term store, after the short-term one was lost or emptied.

    Each goes on in a new epoch: readers with a position in what was lost are told so. Tasks that are there, that have
    ended or were released stay as they are. Servers on a shared store may go on working meanwhile.
    """
    from taskcast_server.cli.loading import load

    loaded = load(config, storage=storage, db_path=db_path)
    if loaded.short_term().name == MEMORY:
        raise CliError("the memory of a server cannot be filled from outside; its tasks come back as they are used")
    done = asyncio.run(rebuild_all(loaded))
    if output is OutputFormat.JSON:
        tell_json(
            {"ok": not done.busy, "restored": done.restored, "there": done.there, "released": done.released,
             "busy": done.busy}
        )  # fmt: skip
    else:
        tell(f"[taskcast] Brought {done.restored} task(s) back; {done.there} were there, {done.released} are released.")
    if done.busy:
        raise CliError(f"{done.busy} task(s) are being brought back by others; try again")


async def rebuild_all(loaded: Loaded) -> Rebuilt:
    """Open the stores that are configured, and rebuild.

    Raises:
        CliError: there is no long-term store. StorageReleaseUnsupported: the stores cannot do so.
    """
    from attrs import evolve

    from taskcast_core import MemoryBroadcastProvider, TaskEngine
    from taskcast_core.assembly import engine_settings
    from taskcast_core.workers import WorkerSettings

    long_term = loaded.long_term()
    if long_term is None:
        raise CliError("no long-term store is configured; there is nothing to rebuild from")
    settings = engine_settings(loaded.config.core, has_long_term=True)
    async with loaded.short_term().open() as hot, long_term.open() as cold:
        engine = TaskEngine(
            broadcast=MemoryBroadcastProvider(),
            short_term_store=hot,
            long_term_store=cold,
            settings=evolve(settings, background=False, workers=WorkerSettings(enabled=False)),
        )
        async with engine:
            return await engine.rebuild()
