"""What nodes tell each other about work and workers: bells on channels that are no task's.

Like every bell these may be lost; whoever waits for one also looks by itself now and then.
"""

from __future__ import annotations

from collections.abc import Callable

from taskcast_core import wire
from taskcast_core.contracts.broadcast import Bell, Broadcast
from taskcast_core.hub import Hub
from taskcast_core.models import Task, TaskStatus

TASK_CHANNEL = "taskcast:worker:new-task"
WORKER_CHANNEL = "taskcast:worker:changed"
TAKEN_CHANNEL = "taskcast:worker:taken"


class News:
    """Rings for the layer of this node, and calls back for what any node rings; callbacks must not block.

    Attributes:
        on_task: a task has become claimable. on_worker: this worker may have got room, or a new status.
        on_taken: this worker's task was ended or taken away by somebody else: its new status.
    """

    def __init__(self, broadcast: Broadcast, now_ms: Callable[[], int]) -> None:
        self._broadcast, self._now_ms = broadcast, now_ms
        self.on_task: list[Callable[[], None]] = []
        self.on_worker: list[Callable[[str], None]] = []
        self.on_taken: list[Callable[[str, str, TaskStatus], None]] = []

    async def open(self, hub: Hub) -> None:
        """Begin to listen."""
        await hub.follow_channel(TASK_CHANNEL, self._heard_of_task)
        await hub.follow_channel(WORKER_CHANNEL, self._heard_of_worker)
        await hub.follow_channel(TAKEN_CHANNEL, self._heard_of_loss)

    def task_waits(self, task: Task) -> None:
        """This task can be claimed."""
        if (task.assign_mode or "external") != "external":
            self._ring(TASK_CHANNEL, task.id, task.status)

    def room(self) -> None:
        """Tasks that there was no room for can be claimed."""
        self._ring(TASK_CHANNEL, "", "pending")

    def worker_changed(self, worker_id: str) -> None:
        """This worker can take more, or takes no more."""
        self._ring(WORKER_CHANNEL, worker_id, "pending")

    def taken_away(self, worker_id: str, task_id: str, status: TaskStatus) -> None:
        """This worker has lost a task."""
        self._ring(TAKEN_CHANNEL, wire.dumps([worker_id, task_id]).decode(), status)

    def _ring(self, channel: str, about: str, status: TaskStatus) -> None:
        self._broadcast.publish(Bell(channel, about, 0, 0, -1, status, self._now_ms()))

    def _heard_of_task(self, _: Bell) -> None:
        for tell in self.on_task:
            tell()

    def _heard_of_worker(self, bell: Bell) -> None:
        for tell in self.on_worker:
            tell(bell.task_id)

    def _heard_of_loss(self, bell: Bell) -> None:
        worker_id, task_id = wire.loads(bell.task_id)
        for tell in self.on_taken:
            tell(worker_id, task_id, bell.status)
