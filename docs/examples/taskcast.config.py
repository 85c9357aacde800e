"""A configuration with live objects: what YAML cannot say. `taskcast` finds it in the working directory.

`config` is a mapping, or a function that returns one. Values are those of the YAML file, or objects in their place.
"""

import os
from collections import Counter

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, Task
from taskcast_core.contracts import Connection

counted: Counter[str] = Counter()


class CountByType:
    """An observer: a plain object with methods named like hooks."""

    def task_created(self, task: Task) -> None:
        counted[task.type or "?"] += 1


def authenticate(connection: Connection) -> dict[str, object] | None:
    if connection.headers.get("authorization") != f"Bearer {os.environ.get('HOUSE_TOKEN', 'open-sesame')}":
        return None
    return {"taskIds": "*", "scope": ["*"]}


config = {
    "logLevel": "warn",
    "adapters": {"broadcast": MemoryBroadcastProvider(), "shortTermStore": {"provider": MemoryShortTermStore()}},
    "auth": {"mode": "custom", "custom": {"authenticate": authenticate}},
    "hooks": [CountByType()],
}
