"""The doorbell between processes. It may lose, repeat or reorder: the log is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from taskcast_core.entries import Entry
from taskcast_core.models import TaskStatus
from taskcast_core.values import value

ALL_TASKS = "*"
"""Who follows this channel hears the bells of all tasks; costs nothing while nobody does."""


@value
class Bell:
    """News of one task: its log grew, or its record changed.

    Attributes:
        channel: the task id; for news that concern no log, a name that no task has.
        first_index: index of the first new entry; the index after the last one when there is none.
        entries: the new entries in order; empty for a bare bell (large ones travel as bare bells).
        status, created_at (ms): of the task.
    """

    channel: str
    task_id: str
    epoch: int
    first_index: int
    last_index: int
    status: TaskStatus
    created_at: int
    entries: tuple[Entry, ...] = ()


class Listener(Protocol):
    """One process' ear. Verbs return once bells of those channels will be heard."""

    async def follow(self, channels: Iterable[str]) -> None:
        """Hear these channels too. Following twice is following once."""

    async def unfollow(self, channels: Iterable[str]) -> None:
        """Stop hearing these channels."""


class Broadcast(Protocol):
    """Fan-out of bells over one shared, supervised connection per process.

    One may have ``is_heard(channel: str) -> bool``: False if nobody anywhere follows the channel, or all tasks, and
    nobody has begun to. No bells are made for it then.
    """

    @property
    def is_shared(self) -> bool:
        """Whether bells reach other processes."""

    def publish(self, bell: Bell) -> None:
        """Ring, without waiting: sending happens in the background, bounded, and may be dropped."""

    def listen(
        self, on_bell: Callable[[Bell], None], on_absence: Callable[[], None]
    ) -> AbstractAsyncContextManager[Listener]:
        """Begin to listen; bells of followed channels go to ``on_bell``, called in the event loop.

        Own bells are heard, too; a bell that several followed channels carry may be heard more than once.
        ``on_absence`` is called when bells may have been missed (a reconnection): the listener then looks at heads.
        """
