"""``taskcast migrate``: brings the tables of the long-term store up to date.

A long-term store that has migrations offers, in the module of its factory, ``open_migrations(options)``: an async
context manager that yields a `Migrations`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from taskcast_server.cli.commands import option
from taskcast_server.cli.flags import ConfigOption, OutputOption
from taskcast_server.cli.output import OutputFormat, confirm_or_fail, tell, tell_json, tell_result

if TYPE_CHECKING:
    from taskcast_core.selection import Selected


class Migrations(Protocol):
    """The numbered steps of a database's layout."""

    async def pending(self) -> Sequence[str]:
        """The names of the steps that have not been applied, in order."""

    async def apply(self) -> Sequence[str]:
        """Apply them, and give the names of those that were; safe with several processes at once."""


def migrate(
    url: Annotated[str | None, option(help="Address of the database; from the configuration otherwise.")] = None,
    config: ConfigOption = None,
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Only say what would be applied.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Bring the long-term store's tables up to date."""
    selected = _selected(config, url)
    opened = None if selected is None else migrations_of(selected)
    if selected is None or opened is None:
        name = "No long-term store is configured" if selected is None else f"{selected.name} has no migrations"
        _tell(f"[taskcast] {name}; there is nothing to migrate.", [], output)
        return
    asyncio.run(apply_migrations(opened, assume_yes=yes, dry_run=dry_run, output=output))


def _selected(config: Path | None, url: str | None) -> Selected | None:
    """The configured long-term store; for an address without a provider, the only one that is installed."""
    from taskcast_server.cli.loading import load

    flags = {"adapters.longTermStore.url": url}
    loaded = load(config, flags=flags)
    installed = loaded.plugins.long_term_stores.names()
    if url is not None and loaded.config.core.adapters.long_term_store.provider is None and len(installed) == 1:
        loaded = load(config, flags={**flags, "adapters.longTermStore.provider": installed[0]})
    return loaded.long_term()


def migrations_of(selected: Selected) -> AbstractAsyncContextManager[Migrations] | None:
    """The migrations that the module of a store's factory offers; None if it has none."""
    if selected.provider is None:
        return None
    module = import_module(selected.provider.location.partition(":")[0])
    opener = getattr(module, "open_migrations", None)
    if opener is None:
        return None
    opened: AbstractAsyncContextManager[Migrations] = opener(selected.options)
    return opened


async def apply_migrations(
    opened: AbstractAsyncContextManager[Migrations], *, assume_yes: bool, output: OutputFormat, dry_run: bool = False
) -> None:
    """Tell what is pending, ask, apply; a dry run only tells."""
    async with opened as migrations:
        pending = await migrations.pending()
        if not pending:
            _tell("[taskcast] Database is up to date.", [], output)
            return
        if output is not OutputFormat.JSON:
            tell(f"[taskcast] {len(pending)} pending migration(s):")
            for name in pending:
                tell(f"  {name}")
        if dry_run:
            if output is OutputFormat.JSON:
                tell_json({"ok": True, "message": "Dry run.", "pending": list(pending)})
            return
        confirm_or_fail("Apply them?", assume_yes=assume_yes)
        applied = await migrations.apply()
        _tell(f"[taskcast] Applied {len(applied)} migration(s) successfully.", applied, output)


def _tell(text: str, applied: Sequence[str], output: OutputFormat) -> None:
    tell_result({"ok": True, "message": text.removeprefix("[taskcast] "), "applied": list(applied)}, text, output)
