"""Flags that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from taskcast_server.cli.commands import option
from taskcast_server.cli.output import OutputFormat

NodeOption = Annotated[str | None, option("--node", help="Name of the server, see `taskcast node`.")]
UrlOption = Annotated[str | None, option("--url", help="Address of the server; also TASKCAST_URL.")]
TokenOption = Annotated[str | None, option("--token", help="Bearer token; also TASKCAST_TOKEN.")]
OutputOption = Annotated[OutputFormat, option("--output", help="How results are printed.")]

ConfigOption = Annotated[Path | None, option("--config", "-c", help="The configuration file; searched for otherwise.")]
StorageOption = Annotated[
    str | None, option("--storage", "-s", help="memory, sqlite, or another installed short-term store.")
]
DbPathOption = Annotated[Path | None, option("--db-path", help="File of the storage sqlite.")]
