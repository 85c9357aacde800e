"""``taskcast export`` and ``taskcast import``: whole tasks as JSON, one archive per line."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from taskcast_server.cli.flags import NodeOption, OutputOption, TokenOption, UrlOption
from taskcast_server.cli.output import CliError, OutputFormat, compact_json, remark, tell, tell_json
from taskcast_server.cli.targets import choose


def export_archives(
    task_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the tasks.", show_default=False)],
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Write here instead of to standard output.")] = None,
    secrets: Annotated[bool, typer.Option("--secrets", help="With webhook secrets; needs task:manage.")] = False,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write tasks with their whole history, one JSON document per line."""
    from taskcast_server.cli.http import Api, task_path

    params = {"secrets": "include"} if secrets else None

    async def fetch() -> list[Any]:
        async with Api(choose(node, url, token)) as api:
            return [await api.request("GET", task_path(each, "archive"), params=params) for each in task_ids]

    archives = asyncio.run(fetch())
    if file is None:
        for archive in archives:
            tell_json(archive)
        return
    _write(file, "".join(f"{compact_json(each)}\n" for each in archives), is_secret=secrets)
    if output is OutputFormat.JSON:
        tell_json({"ok": True, "file": str(file), "tasks": len(archives)})
    else:
        tell(f"Exported {len(archives)} task(s) to {file}")


def import_archives(
    file: Annotated[Path, typer.Argument(help="What `taskcast export` has written; `-` is standard input.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace tasks that are there.")] = False,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Read tasks into the server; stops at the first that it refuses."""
    from taskcast_server.cli.http import Api

    archives = _archives(sys.stdin.read() if str(file) == "-" else file.read_text("utf-8"))

    async def send() -> None:
        async with Api(choose(node, url, token)) as api:
            for at, archive in enumerate(archives):
                body = {"archive": archive, "overwrite": overwrite}
                try:
                    result = await api.request("POST", "/tasks/import", body)
                except CliError:
                    remark(f"{at} of {len(archives)} task(s) were imported")
                    raise
                if output is OutputFormat.JSON:
                    tell_json(result)
                else:
                    replaced = ", replaced the one that was there" if result.get("overwritten") else ""
                    tell(f"Imported {result['taskId']} ({result['eventCount']} events{replaced})")

    asyncio.run(send())


def _archives(text: str) -> list[Any]:
    """One document, as other programs write it, or one per line."""
    try:
        return [json.loads(text)]
    except ValueError:
        pass
    try:
        archives = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise CliError(f"the file is neither one archive nor one per line: {error}") from error
    if not archives:
        raise CliError("the file is empty")
    return archives


def _write(path: Path, text: str, *, is_secret: bool) -> None:
    if is_secret:
        path.touch(mode=0o600)
        path.chmod(0o600)
    path.write_text(text, "utf-8")
