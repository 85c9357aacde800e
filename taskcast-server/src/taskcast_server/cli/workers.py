"""``taskcast workers``: list, inspect, drain, resume, remove, events."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taskcast_server.cli.calling import call
from taskcast_server.cli.flags import NodeOption, OutputOption, TokenOption, UrlOption
from taskcast_server.cli.output import OutputFormat, compact_json, fitted, local_time, printable, tell, tell_json

app = typer.Typer(name="workers", help="Look at workers, and send them home.", no_args_is_help=True)

WorkerId = Annotated[str, typer.Argument(metavar="ID", help="Id of the worker.", show_default=False)]


@app.command("list")
def list_workers(
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """List the workers that are registered."""
    workers = call(node, url, token, "GET", "/workers")["workers"]
    if output is OutputFormat.JSON:
        tell_json({"workers": workers})
    elif not workers:
        tell("No workers found.")
    else:
        rows = [_row(worker) for worker in workers]
        for line in fitted(("ID", "STATUS", "SLOTS", "MODE", "TYPES", "LAST SIGN"), rows):
            tell(line)


@app.command()
def inspect(
    worker_id: WorkerId,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show one worker."""
    from taskcast_server.cli.http import worker_path

    worker = call(node, url, token, "GET", worker_path(worker_id))
    if output is OutputFormat.JSON:
        tell_json(worker)
        return
    for name, value in worker.items():
        shown = local_time(value) if name.endswith("At") else value if isinstance(value, str) else compact_json(value)
        tell(f"{name + ':':<18}{printable(shown)}")


@app.command()
def drain(
    worker_id: WorkerId,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Give a worker nothing new; it keeps what it has."""
    _set_status("draining", "Draining", worker_id, node, url, token, output)


@app.command()
def resume(
    worker_id: WorkerId,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Let a draining worker take tasks again."""
    _set_status("idle", "Resumed", worker_id, node, url, token, output)


@app.command()
def remove(
    worker_id: WorkerId,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Forget a worker; its tasks are dealt with by their disconnect policy."""
    from taskcast_server.cli.http import worker_path

    call(node, url, token, "DELETE", worker_path(worker_id))
    if output is OutputFormat.JSON:
        tell_json({"ok": True, "workerId": worker_id})
    else:
        tell(f"Removed {printable(worker_id)}")


@app.command()
def events(
    worker_id: WorkerId,
    limit: Annotated[int, typer.Option(min=1, help="Show no more than so many.")] = 20,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show a worker's audit log, the newest first; a long-term store keeps it."""
    from taskcast_server.cli.http import worker_path

    found = call(node, url, token, "GET", worker_path(worker_id, "events"), params={"limit": str(limit)})
    if output is OutputFormat.JSON:
        tell_json({"events": found})
        return
    if not found:
        tell("No events found.")
    for event in found:
        data = f" {compact_json(event['data'])}" if event.get("data") else ""
        tell(f"{local_time(event['timestamp'])}  {printable(event['action'])}{data}")


def _row(worker: dict[str, Any]) -> tuple[str, ...]:
    types = worker["matchRule"].get("taskTypes") or ["*"]
    return (
        printable(worker["id"]),
        worker["status"],
        f"{worker['usedSlots']}/{worker['capacity']}",
        worker["connectionMode"],
        printable(",".join(types)),
        local_time(worker["lastHeartbeatAt"]),
    )


def _set_status(
    status: str,
    done: str,
    worker_id: str,
    node: str | None,
    url: str | None,
    token: str | None,
    output: OutputFormat,
) -> None:
    from taskcast_server.cli.http import worker_path

    worker = call(node, url, token, "PATCH", worker_path(worker_id, "status"), {"status": status})
    if output is OutputFormat.JSON:
        tell_json(worker)
    else:
        tell(f"{done} {printable(worker_id)}")
