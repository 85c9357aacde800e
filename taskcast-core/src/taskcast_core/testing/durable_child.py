"""The process that is killed: commits without end, and says what it begins and what has been acknowledged.

    python -m taskcast_core.testing.durable_child SPEC WORD

SPEC is an ``OpenSpec`` as JSON, WORD begins the ids of its tasks. Every line on standard output is a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from taskcast_core.contracts import Change, Guard, Record, TaskLog
from taskcast_core.testing.making import a_key, a_task, delta, message, status
from taskcast_core.testing.opening import OpenSpec

WRITERS = 6
RECORD_EVERY = 5
"""Every so many commits one replaces the record, too."""


def say(**facts: Any) -> None:
    """One line, out of the process before the next statement."""
    os.write(1, json.dumps(facts).encode() + b"\n")


async def write(store: TaskLog, task_id: str) -> None:
    """Commit batches of two deltas, each with a key, for ever."""
    made = await store.create(Record(a_task(store.now_ms(), id=task_id, status="running"), lanes=("archive",)))
    say(ack="create", task=task_id)
    rev, n = made.stored.rev, 0
    while True:
        key = a_key(f"{task_id}/{n}")
        events = (delta("s", f"{n}.0,"), message("tick", [n, 1]))
        say(start=n, task=task_id, key=key.name)
        if n % RECORD_EVERY == RECORD_EVERY - 1:
            record = Record(a_task(store.now_ms(), id=task_id, status="running", params={"n": n}), lanes=("archive",))
            done = await store.commit(task_id, Change((*events, status("running")), record, Guard(rev=rev), key))
            rev = done.stored.rev
        else:
            done = await store.commit(task_id, Change(events, key=key))
        say(ack=n, task=task_id, rev=rev, entries=[[e.index, e.id, e.timestamp] for e in done.entries])
        n += 1


async def main(spec: OpenSpec, word: str) -> None:
    """Open the store and write to several tasks at once."""
    async with spec.open() as store:
        await asyncio.gather(*(write(store, f"{word}-{n}") for n in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(OpenSpec(**json.loads(sys.argv[1])), sys.argv[2]))
