"""``taskcast start``: the server, with a banner that says what it runs on. Never asks anything."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from taskcast_server.cli.commands import option
from taskcast_server.cli.flags import ConfigOption, DbPathOption, StorageOption
from taskcast_server.cli.output import CliError, OutputFormat, remark, tell, tell_json

if TYPE_CHECKING:
    from taskcast_core.selection import Selected
    from taskcast_server.cli.loading import Loaded
    from taskcast_server.serve import Started

_AUTO_MIGRATE = "TASKCAST_AUTO_MIGRATE"
_YES = ("1", "true", "yes", "on")


def start(
    config: ConfigOption = None,
    port: Annotated[
        int | None, option("--port", "-p", min=0, max=65_535, help="Port to listen on; 3721 by default.")
    ] = None,
    host: Annotated[str | None, option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    storage: StorageOption = None,
    db_path: DbPathOption = None,
    verbose: Annotated[bool, option("--verbose", "-v", help="Print a line for each request.")] = False,
    playground: Annotated[bool, option(hidden=True, help="Accepted; there is none.")] = False,
    output: Annotated[
        OutputFormat, option(help="text, verbose (a line for each request) or json (banner, log and requests).")
    ] = OutputFormat.TEXT,
) -> None:
    """Start the server (what `taskcast` does without a command)."""
    from taskcast_server.cli.loading import check_log_level, load
    from taskcast_server.cli.log_setup import set_up_logging
    from taskcast_server.options import ServerOptions

    as_json = output is OutputFormat.JSON
    check_log_level()
    early_json = as_json or os.environ.get("TASKCAST_LOG_FORMAT") == "json"
    set_up_logging(os.environ.get("TASKCAST_LOG_LEVEL") or "info", as_json=early_json)
    loaded = load(config, storage=storage, db_path=db_path, flags={"port": port, "host": host})
    log_format = loaded.config.section(ServerOptions).log_format
    set_up_logging(loaded.config.core.log_level, as_json=as_json or log_format == "json")
    if playground:
        remark("There is no playground in this server; the API reference is at /docs")
    facts = described(loaded)
    if not as_json:
        _tell_banner(facts)
    if facts["longTermStore"] is None and os.environ.get(_AUTO_MIGRATE, "").lower() in _YES:
        remark(f"{_AUTO_MIGRATE} is set but no Postgres configured — skipping")
    if loaded.is_default_store:
        _make_directory(Path(facts["shortTermStore"]["path"]).parent)
    _serve(loaded, facts, output, is_verbose=verbose or output is OutputFormat.VERBOSE)


def described(loaded: Loaded) -> dict[str, Any]:
    """What the server will run on, without credentials."""
    source = loaded.config.source
    long_term = loaded.long_term()
    return {
        "config": str(source) if source else None,
        "shortTermStore": _store(loaded.short_term()),
        "longTermStore": _store(long_term) if long_term else None,
    }


def _store(selected: Selected) -> dict[str, str]:
    facts = {"provider": selected.name}
    if url := getattr(selected.options, "url", None):
        from taskcast_server.cli.targets import shown_url

        facts["url"] = shown_url(str(url))
    if path := getattr(selected.options, "path", None):
        facts["path"] = str(Path(path).resolve())
    return facts


def _tell_banner(facts: dict[str, Any]) -> None:
    tell(f"[taskcast] Config: {facts['config'] or '(none)'}")
    tell(f"[taskcast] Short-term store: {_line(facts['shortTermStore'])}")
    tell(f"[taskcast] Long-term store:  {_line(facts['longTermStore'])}")


def _line(store: dict[str, str] | None) -> str:
    if store is None:
        return "(none)"
    place = store.get("url") or store.get("path")
    return f"{store['provider']} ({place})" if place else store["provider"]


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _serve(loaded: Loaded, facts: dict[str, Any], output: OutputFormat, *, is_verbose: bool) -> None:
    from taskcast_server.cli.log_setup import failures_told_once
    from taskcast_server.options import ServerOptions
    from taskcast_server.serve import serve

    as_json = output is OutputFormat.JSON
    starting = ExitStack()

    def started(server: Started) -> None:
        starting.close()
        if as_json:
            token = {"adminToken": server.admin_token} if server.admin_token else {}
            place = {"url": server.url, "host": server.host, "port": server.port}
            tell_json({"event": "started", **place, **facts, **token})
            return
        if server.admin_token:
            tell(f"[taskcast] Admin token (auto-generated): {server.admin_token}")
        tell(f"[taskcast] Server started on {server.url}")

    def asked(line: str) -> None:
        if as_json:
            tell_json({"event": "request", "line": line})
        else:
            tell(line)

    try:
        with starting:
            starting.enter_context(failures_told_once())
            serve(loaded.config, loaded.plugins, on_started=started, on_request=asked if is_verbose else None)
    except OSError as error:
        if error.filename is not None:
            raise
        options = loaded.config.section(ServerOptions)  # an address has no file name
        reason = error.strerror or str(error)
        raise CliError(f"cannot listen on {options.host}:{options.port}: {reason}") from error
