"""How Taskcast finds the store, and which options it takes."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from attrs import frozen

from taskcast_core import Registry, hookimpl
from taskcast_core.config import option
from taskcast_core.contracts import TaskLog


@frozen
class JournalOptions:
    """``adapters.shortTermStore``, beside ``provider: journal``."""

    path: Path = option(Path("taskcast.journal"), env="TASKCAST_JOURNAL_PATH", help="the file; it only grows")
    fsync: bool = option(default=False, help="wait for the disk, so that a commit survives a power cut, too")


@hookimpl
def taskcast_short_term_stores(registry: Registry) -> None:
    """Offer ``journal``; the function is called when the configuration asks for it."""
    registry.add("journal", open_store, options=JournalOptions)


def open_store(options: JournalOptions) -> AbstractAsyncContextManager[TaskLog]:
    """The store, opened by entering it; closed when the engine closes."""
    from taskcast_example_store.store import JournalStore

    return JournalStore(options.path, fsync=options.fsync)
