"""``taskcast config check``: what holds, where it comes from, and what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskcast_server.cli.commands import Group
from taskcast_server.cli.flags import ConfigOption, DbPathOption, OutputOption, StorageOption
from taskcast_server.cli.output import OutputFormat, fitted, remark, tell, tell_json

if TYPE_CHECKING:
    from taskcast_core.config import Problem
    from taskcast_server.cli.loading import Loaded

app = Group("config", help="Look at the configuration.")


@app.command()
def check(
    config: ConfigOption = None,
    storage: StorageOption = None,
    db_path: DbPathOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Print what the server would run with and where each value comes from; exits with 1 if something is wrong."""
    warnings = _Warnings()
    logging.getLogger().addHandler(warnings)
    loaded, problems = _checked(config, storage, db_path)
    if output is OutputFormat.JSON:
        tell_json(_facts(loaded, problems, warnings.messages))
    else:
        _tell_text(loaded, problems, warnings.messages, is_verbose=output is OutputFormat.VERBOSE)
    if problems:
        raise click.exceptions.Exit(1)


class _Warnings(logging.Handler):
    """Takes what is logged while the configuration is read."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep each message once."""
        if (message := record.getMessage()) not in self.messages:
            self.messages.append(message)


def _checked(config: Path | None, storage: str | None, db_path: Path | None) -> tuple[Loaded | None, list[Problem]]:
    from taskcast_core.config import ConfigError, InvalidConfig, Problem
    from taskcast_server.cli.loading import load

    try:
        loaded = load(config, storage=storage, db_path=db_path)
    except InvalidConfig as error:
        where = f"{error.source}: " if error.source else ""
        return None, [each if each.path else Problem("", where + each.message) for each in error.problems]
    problems: list[Problem] = []
    for read in (_read_all, _read_auth):
        try:
            read(loaded)
        except ConfigError as error:
            found = error.problems if isinstance(error, InvalidConfig) else [Problem("auth", str(error))]
            problems += [each for each in found if each not in problems]
    return loaded, problems


def _read_all(loaded: Loaded) -> None:
    loaded.plugins.check(loaded.config)


def _read_auth(loaded: Loaded) -> None:
    """As the server does when it starts: keys are read, too."""
    from taskcast_server.auth.assembly import open_authenticator

    async def try_out() -> None:
        async with open_authenticator(loaded.config, loaded.plugins):
            pass

    asyncio.run(try_out())


def _facts(loaded: Loaded | None, problems: list[Problem], warnings: list[str]) -> dict[str, Any]:
    settings = sorted(loaded.config.provenance.items()) if loaded else []
    return {
        "ok": not problems,
        "source": str(loaded.config.source) if loaded and loaded.config.source else None,
        "errors": [{"path": each.path, "message": each.message} for each in problems],
        "warnings": warnings,
        "settings": {
            path: {"value": setting.value, "origin": loaded.origin_of(path) if loaded else ""}
            for path, setting in settings
        },
    }


def _tell_text(loaded: Loaded | None, problems: list[Problem], warnings: list[str], *, is_verbose: bool) -> None:
    if loaded is not None:
        tell(f"Configuration: {loaded.config.source or '(no file)'}")
        rows = [
            (path, setting.value, loaded.origin_of(path))
            for path, setting in sorted(loaded.config.provenance.items())
            if is_verbose or setting.origin.rank
        ]
        for line in fitted(("OPTION", "VALUE", "FROM"), rows):
            tell(line)
        if not is_verbose:
            tell("Everything else is at its default; --output verbose shows it.")
    for warning in warnings:
        remark(f"warning: {warning}")
    for problem in problems:
        remark(f"error: {problem.message}")
    if not problems:
        tell("The configuration is right.")
