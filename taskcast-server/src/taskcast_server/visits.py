"""From the coming of a reader to its going: who has to be counted, kept alive and told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from taskcast_core.engine import TaskEngine
from taskcast_core.ids import new_ulid
from taskcast_server import request_ids
from taskcast_server.calls import Call
from taskcast_server.errors import ShuttingDown
from taskcast_server.failures import report_failure


class Visit:
    """One open stream, apart from what it sends. It is to be called when the stream is over.

    Idle readers are many: nothing is kept of the call but what is needed at the end.
    """

    __slots__ = ("_engine", "_leaving", "_request_id", "_task_id")

    def __init__(self, call: Call) -> None:
        """Count the stream for its caller, and keep its ticket alive.

        Raises:
            ShuttingDown, TooManyRequests.
        """
        services = call.services
        if services.is_closing:
            raise ShuttingDown
        self._engine, self._request_id, self._task_id = services.engine, call.request_id, call.params.get("taskId", "")
        self._leaving: ExitStack | None = None
        streams = services.callers.streams
        if streams is not None or call.ticket is not None:
            with ExitStack() as entering:
                if streams is not None:
                    entering.enter_context(streams.opened(call.caller))
                if call.ticket is not None:
                    entering.enter_context(services.tickets.streaming(call.ticket))
                self._leaving = entering.pop_all()

    def tell(self) -> None:
        """Tell the observers, if there are any, that a reader has come, and at the end that it is gone."""
        observers = self._engine.observers
        if observers.subscriber_connected or observers.subscriber_disconnected:
            self._leaving = self._leaving or ExitStack()
            self._leaving.enter_context(_telling(self._engine, self._task_id))

    def __call__(self, error: Exception | None) -> None:
        """The stream is over, because of an error if one is given, that nobody has reported."""
        if self._leaving is not None:
            self._leaving.close()
        if error is not None:
            request_ids.current.set(self._request_id.decode("latin-1"))
            report_failure(self._engine, "GET", f"/tasks/{self._task_id}/events", 500, error, self._task_id)


@contextmanager
def _telling(engine: TaskEngine, task_id: str) -> Iterator[None]:
    observers = engine.observers
    client_id, loop = new_ulid(engine.now_ms()), asyncio.get_running_loop()
    began = loop.time()
    if observers.subscriber_connected:
        observers.subscriber_connected(task_id=task_id, client_id=client_id)
    try:
        yield
    finally:
        if observers.subscriber_disconnected:
            duration_ms = round((loop.time() - began) * 1000)
            observers.subscriber_disconnected(task_id=task_id, client_id=client_id, duration_ms=duration_ms)
