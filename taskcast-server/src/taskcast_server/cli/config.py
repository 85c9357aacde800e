"""``taskcast config check``: what holds, where it comes from, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from taskcast_server.cli.flags import ConfigOption, DbPathOption, OutputOption, StorageOption
from taskcast_server.cli.output import OutputFormat, fitted, remark, tell, tell_json

if TYPE_CHECKING:
    from taskcast_core.config import Problem
    from taskcast_server.cli.loading import Loaded

app = typer.Typer(name="config", help="Look at the configuration.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look at the configuration."""


@app.command()
def check(
    config: ConfigOption = None,
    storage: StorageOption = None,
    db_path: DbPathOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Print what the server would run with and where each value comes from; exits with 1 if something is wrong."""
    loaded, problems = _checked(config, storage, db_path)
    if output is OutputFormat.JSON:
        tell_json(_facts(loaded, problems))
    else:
        _tell_text(loaded, problems, is_verbose=output is OutputFormat.VERBOSE)
    if problems:
        raise typer.Exit(1)


def _checked(config: Path | None, storage: str | None, db_path: Path | None) -> tuple[Loaded | None, list[Problem]]:
    from taskcast_core.config import InvalidConfig
    from taskcast_server.cli.loading import load

    try:
        loaded = load(config, storage=storage, db_path=db_path)
    except InvalidConfig as error:
        return None, list(error.problems)
    problems: list[Problem] = []
    for read in (_read_all, _read_auth):
        try:
            read(loaded)
        except InvalidConfig as error:
            problems += [each for each in error.problems if each not in problems]
    return loaded, problems


def _read_all(loaded: Loaded) -> None:
    loaded.plugins.check(loaded.config)


def _read_auth(loaded: Loaded) -> None:
    from taskcast_server.auth.assembly import mode_options
    from taskcast_server.auth.options import AuthOptions

    auth = loaded.config.section(AuthOptions)
    provider = loaded.plugins.authenticators.get(auth.mode, "auth.mode")
    if provider.options_class is not None:
        mode_options(auth, auth.mode, provider.options_class)


def _facts(loaded: Loaded | None, problems: list[Problem]) -> dict[str, Any]:
    settings = sorted(loaded.config.provenance.items()) if loaded else []
    return {
        "ok": not problems,
        "source": str(loaded.config.source) if loaded and loaded.config.source else None,
        "errors": [{"path": each.path, "message": each.message} for each in problems],
        "warnings": list(loaded.config.warnings) if loaded else [],
        "settings": {
            path: {"value": setting.value, "origin": loaded.origin_of(path) if loaded else ""}
            for path, setting in settings
        },
    }


def _tell_text(loaded: Loaded | None, problems: list[Problem], *, is_verbose: bool) -> None:
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
        for warning in loaded.config.warnings:
            remark(f"warning: {warning}")
    for problem in problems:
        remark(f"error: {problem.message}")
    if not problems:
        tell("The configuration is right.")
