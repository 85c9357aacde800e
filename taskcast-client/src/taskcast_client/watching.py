"""What others tell a task that is run here: that it has been ended, and the answers to its tool calls."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from taskcast_client.errors import ClientError, TaskCancelled
from taskcast_client.models import SIGNAL_TYPE, STATUS_TYPE, TOOL_RESULT_SIGNAL, JsonObject, Signal

if TYPE_CHECKING:
    from taskcast_client.client import TaskcastClient
    from taskcast_client.models import Envelope

MAX_ANSWERS = 1000
"""Answers that nobody has taken (yet) are kept up to so many, the newest."""


class Watcher:
    """Reads a task's status and signals from their beginning, on one stream for all who wait.

    Attributes:
        ended: becomes the terminal status, or fails with what keeps us from reading.
    """

    def __init__(self, client: TaskcastClient, task_id: str) -> None:
        loop = asyncio.get_running_loop()
        self._client, self._task_id = client, task_id
        self.ended: asyncio.Future[str] = loop.create_future()
        self._waiting: dict[str, asyncio.Future[JsonObject]] = {}
        self._answers: OrderedDict[str, JsonObject] = OrderedDict()
        self._task = loop.create_task(self._watch(), name="taskcast watcher")

    async def answer(self, call_id: str) -> JsonObject:
        """Wait for the answer to a tool call, and take it; one that has come already counts.

        Raises:
            ValueError: somebody waits for it already. TaskCancelled: the task has ended. ClientError: it cannot be
            read.
        """
        if call_id in self._waiting:
            raise ValueError(f"tool call {call_id!r} is open already")
        answer = self._answers.get(call_id)
        if answer is None:
            if self.ended.done():
                raise self._no_more()
            arrival = self._waiting[call_id] = asyncio.get_running_loop().create_future()
            try:
                answer = await arrival
            finally:
                del self._waiting[call_id]
        self._answers.pop(call_id, None)
        return answer

    async def stop(self) -> None:
        """Read no more; who still waits is cancelled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.ended.cancel()
        for arrival in self._waiting.values():
            arrival.cancel()

    async def _watch(self) -> None:
        try:
            async with self._client.subscribe(self._task_id, types=(STATUS_TYPE, SIGNAL_TYPE)) as stream:
                async for event in stream:
                    self._take(event)
            self.ended.set_result(stream.status or "cancelled")
        except ClientError as error:
            self.ended.set_exception(error)
            self.ended.exception()  # whoever awaits it sees it; nobody has to
        for arrival in self._waiting.values():
            if not arrival.done():
                arrival.set_exception(self._no_more())

    def _take(self, event: Envelope) -> None:
        signal = Signal.of(event)
        if signal is None or signal.type != TOOL_RESULT_SIGNAL or not isinstance(signal.data, dict):
            return
        call_id = signal.data.get("callId")
        if not isinstance(call_id, str):
            return
        # Kept although somebody waits: who is cancelled just now may ask again.
        self._answers.setdefault(call_id, signal.data)
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
        arrival = self._waiting.get(call_id)
        if arrival is not None and not arrival.done():
            arrival.set_result(signal.data)

    def _no_more(self) -> ClientError:
        error = self.ended.exception()
        return error if isinstance(error, ClientError) else TaskCancelled(self._task_id, self.ended.result())
