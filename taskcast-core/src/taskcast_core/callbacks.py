"""Subscriptions for code that prefers callbacks to ``async for``."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from taskcast_core.errors import TaskcastError
from taskcast_core.models import Event, TaskStatus
from taskcast_core.subscription import Subscription

OnEvent = Callable[[Event], Awaitable[None] | None]
OnDone = Callable[[TaskStatus], Awaitable[None] | None]
OnError = Callable[[Exception], Awaitable[None] | None]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Unsubscribe:
    """Ends a subscription when called; ``await handle.wait()`` waits for its end."""

    def __init__(self, subscription: Subscription, task: asyncio.Task[None]) -> None:
        self._subscription, self._task = subscription, task

    def __call__(self) -> None:
        """No event is delivered after this."""
        self._subscription.close()
        self._task.cancel()

    async def wait(self) -> None:
        """Until the task has ended and everything was delivered, or the subscription was ended."""
        await asyncio.wait({self._task})


def follow_with_callbacks(
    subscription: Subscription, on_event: OnEvent, on_done: OnDone | None, on_error: OnError | None
) -> Unsubscribe:
    """Read a subscription in a task of its own.

    ``on_error`` is told of a task that is not there and of a stream that was cut, and once of each exception that a
    callback raises (without it they are logged); the stream goes on after those.
    """
    task = asyncio.get_running_loop().create_task(_follow(subscription, on_event, on_done, on_error))
    return Unsubscribe(subscription, task)


class StreamCut(TaskcastError):
    """The stream stopped before the task ended; subscribe again with the last event's id."""

    code = "stream_cut"
    retryable = True


async def _follow(
    subscription: Subscription, on_event: OnEvent, on_done: OnDone | None, on_error: OnError | None
) -> None:
    try:
        async for event in subscription:
            try:
                await _call(on_event, event)
            except Exception as error:  # noqa: BLE001 - the caller's code; the stream goes on
                await _report(on_error, error)
        if subscription.status is not None:
            if on_done is not None:
                await _call(on_done, subscription.status)
        else:
            raise StreamCut(f"the stream of {subscription.task_id} was cut")
    except Exception as error:  # noqa: BLE001 - reported to the caller
        await _report(on_error, error)


async def _call(function: Callable[[T], Awaitable[None] | None], value: T) -> None:
    result = function(value)
    if inspect.isawaitable(result):
        await result


async def _report(on_error: OnError | None, error: Exception) -> None:
    if on_error is None:
        _log.error("subscription callback failed", exc_info=error)
        return
    try:
        await _call(on_error, error)
    except Exception:  # noqa: BLE001 - nobody is left to tell
        _log.exception("on_error failed")
