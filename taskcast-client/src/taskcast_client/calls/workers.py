"""Workers: pulling, declining, heartbeats, management."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from taskcast_client.calls.call import (
    Call,
    Reply,
    joined,
    list_in,
    nothing,
    query_of,
    reading,
    task_path,
    worker_path,
    writing,
)
from taskcast_client.models import Task, Worker, WorkerAudit
from taskcast_client.wire import dumps, from_wire


def list_workers() -> Call[list[Worker]]:
    """All workers that the server knows."""
    return Call("GET", "/workers", lambda reply: from_wire(list[Worker], list_in(reply, "workers")))


def get_worker(worker_id: str) -> Call[Worker]:
    """One worker.

    Raises:
        WorkerNotFound: there is none.
    """
    return reading(worker_path(worker_id), Worker)


def set_worker_status(worker_id: str, status: Literal["draining", "idle"]) -> Call[Worker]:
    """Let a worker take no new tasks (``draining``), or take them again (``idle``)."""
    return writing("PATCH", f"{worker_path(worker_id)}/status", Worker, {"status": status}, repeat="safe")


def delete_worker(worker_id: str) -> Call[None]:
    """Forget a worker; its tasks are treated as its disconnect policy says."""
    return Call("DELETE", worker_path(worker_id), nothing, gone=True)


def get_worker_events(worker_id: str, *, limit: int | None = None) -> Call[list[WorkerAudit]]:
    """The worker's audit log."""

    def read(reply: Reply) -> list[WorkerAudit]:
        return from_wire(list[WorkerAudit], list_in(reply, "events"))

    return Call("GET", f"{worker_path(worker_id)}/events", read, query=query_of({"limit": limit}))


def pull_task(
    worker_id: str,
    *,
    timeout_ms: int = 30_000,
    capacity: int | None = None,
    types: Iterable[str] | None = None,
    tags: Iterable[str] | None = None,
    weight: float | None = None,
) -> Call[Task | None]:
    """Wait for a task to run (``assigned`` to this worker), at most ``timeout_ms``; None if there was none.

    A call says that the worker is alive; an unknown one is registered with this capacity, types and tags.
    """
    query = {
        "workerId": worker_id, "timeout": timeout_ms, "capacity": capacity, "types": joined(types),
        "tags": joined(tags), "weight": weight,
    }  # fmt: skip

    def read(reply: Reply) -> Task | None:
        return None if reply.status == 204 else from_wire(Task, reply.json())

    return Call("GET", "/workers/pull", read, query=query_of(query), extra_s=timeout_ms / 1000)


def send_heartbeat(worker_id: str, task_ids: Iterable[str] | None = None) -> Call[list[str]]:
    """Say that a worker lives, and has these tasks; returns those that are not its own any more.

    Raises:
        WorkerNotFound: the server does not know it (any more). NotFound: the server has no such thing.
    """
    body = None if task_ids is None else dumps({"taskIds": list(task_ids)})

    def read(reply: Reply) -> list[str]:
        return [str(each) for each in list_in(reply, "cancelled")]

    return Call("POST", f"{worker_path(worker_id)}/heartbeat", read, body=body)


def decline_task(task_id: str, worker_id: str, *, blacklist: bool = False) -> Call[None]:
    """Give an assigned task back; ``blacklist``: never offer it to this worker again."""
    body = {"workerId": worker_id, "blacklist": blacklist}
    path = f"/workers{task_path(task_id)}/decline"
    return Call("POST", path, nothing, body=dumps(body))
