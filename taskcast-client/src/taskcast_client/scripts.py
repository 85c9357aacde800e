"""Progress of an existing script, with one changed line: ``for page in track(pages):``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from taskcast_client.connection import DEFAULT_URL
from taskcast_client.sync import SyncTaskcastClient

T = TypeVar("T")


def track(
    items: Iterable[T], total: int | None = None, message: str | None = None, *, type: str = "script"
) -> Iterator[T]:
    """The items, one by one, while a task shows how many of them are done.

    The server is that of ``TASKCAST_URL``, the token ``TASKCAST_TOKEN``. A script that ``taskcast run`` has started
    reports to the task of that run; any other gets a task of this type, whose id is written to standard error. It is
    completed after the last item, failed by what the items raise, and cancelled when the loop is left early.

    Raises:
        ClientError: the server cannot be reached, or refuses. TaskCancelled: somebody has cancelled the task.
    """
    url, token = os.environ.get("TASKCAST_URL") or DEFAULT_URL, os.environ.get("TASKCAST_TOKEN") or None
    task_id = os.environ.get("TASKCAST_TASK_ID")
    with SyncTaskcastClient(url, token=token) as client:
        if task_id:
            with client.attach(task_id) as task:
                yield from task.track(items, total, message)
                task.flush()
                task.let_go()
        else:
            with client.task(type=type) as task:
                sys.stderr.write(f"taskcast: task {task.id}\n")
                yield from task.track(items, total, message)
