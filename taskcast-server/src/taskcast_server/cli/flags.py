"""Flags that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taskcast_server.cli.output import OutputFormat

NodeOption = Annotated[str | None, typer.Option("--node", help="Name of the server, see `taskcast node`.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Address of the server; also TASKCAST_URL.")]
TokenOption = Annotated[str | None, typer.Option("--token", help="Bearer token; also TASKCAST_TOKEN.")]
OutputOption = Annotated[OutputFormat, typer.Option("--output", help="How results are printed.")]

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file; searched for otherwise.")
]
StorageOption = Annotated[
    str | None, typer.Option("--storage", "-s", help="memory, sqlite, or another installed short-term store.")
]
DbPathOption = Annotated[Path | None, typer.Option("--db-path", help="File of the storage sqlite.")]
