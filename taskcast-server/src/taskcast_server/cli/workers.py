"""``taskcast workers``: list, inspect, drain, resume, remove, events."""

from __future__ import annotations

from typing import Annotated, Any

from taskcast_server.cli.commands import Group, argument, option
from taskcast_server.cli.output import compact_json, fitted, local_time, printable, tell, tell_json
from taskcast_server.cli.remote import Remote, with_remote

app = Group("workers", help="Look at workers, and send them home.")

WorkerId = Annotated[str, argument(metavar="ID", help="Id of the worker.")]


@app.command("list")
@with_remote
def list_workers(remote: Remote) -> None:
    """List the workers that are registered."""
    workers = remote.call("GET", "/workers")["workers"]
    if remote.is_json:
        tell_json({"workers": workers})
    elif not workers:
        tell("No workers found.")
    else:
        rows = [_row(worker) for worker in workers]
        for line in fitted(("ID", "STATUS", "SLOTS", "MODE", "TYPES", "LAST SIGN"), rows):
            tell(line)


@app.command()
@with_remote
def inspect(remote: Remote, worker_id: WorkerId) -> None:
    """Show one worker."""
    from taskcast_server.cli.http import worker_path

    worker = remote.call("GET", worker_path(worker_id))
    if remote.is_json:
        tell_json(worker)
        return
    for name, value in worker.items():
        shown = local_time(value) if name.endswith("At") else value if isinstance(value, str) else compact_json(value)
        tell(f"{name + ':':<18}{printable(shown)}")


@app.command()
@with_remote
def drain(remote: Remote, worker_id: WorkerId) -> None:
    """Give a worker nothing new; it keeps what it has."""
    _set_status(remote, worker_id, "draining", "Draining")


@app.command()
@with_remote
def resume(remote: Remote, worker_id: WorkerId) -> None:
    """Let a draining worker take tasks again."""
    _set_status(remote, worker_id, "idle", "Resumed")


@app.command()
@with_remote
def remove(remote: Remote, worker_id: WorkerId) -> None:
    """Forget a worker; its tasks are dealt with by their disconnect policy."""
    from taskcast_server.cli.http import worker_path

    remote.call("DELETE", worker_path(worker_id))
    remote.tell({"ok": True, "workerId": worker_id}, f"Removed {printable(worker_id)}")


@app.command()
@with_remote
def events(
    remote: Remote,
    worker_id: WorkerId,
    limit: Annotated[int, option(min=1, help="Show no more than so many.")] = 20,
) -> None:
    """Show a worker's audit log, the newest first; a long-term store keeps it."""
    from taskcast_server.cli.http import worker_path

    found = remote.call("GET", worker_path(worker_id, "events"), params={"limit": str(limit)})
    if remote.is_json:
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


def _set_status(remote: Remote, worker_id: str, status: str, done: str) -> None:
    from taskcast_server.cli.http import worker_path

    worker = remote.call("PATCH", worker_path(worker_id, "status"), {"status": status})
    remote.tell(worker, f"{done} {printable(worker_id)}")
