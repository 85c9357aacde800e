"""The async client of one Taskcast server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar, overload

import httpx

from taskcast_client.calls import Call
from taskcast_client.connection import DEFAULT_URL, Connection, Token
from taskcast_client.following import StreamFilter
from taskcast_client.models import (
    AssignMode,
    Cursor,
    Envelope,
    JsonObject,
    Level,
    SeriesFormat,
    Task,
    TaskInput,
    TaskStatus,
)
from taskcast_client.producer import TaskRun
from taskcast_client.retries import RetryPolicy
from taskcast_client.sending import Coalescing
from taskcast_client.stream import (
    GIVE_UP_AFTER_S,
    SILENCE_S,
    OnDone,
    OnError,
    OnEvent,
    Subscription,
    TaskStream,
    TextStream,
    follow_all,
    wait_for_end,
)
from taskcast_client.verbs import Verbs

R = TypeVar("R")


class TaskcastClient(Verbs):
    """Everything that a Taskcast server offers. One client serves a whole program; `async with`, or ``aclose()``.

    Args:
        base_url: of the server; a path is fine, as when the server is mounted in another program.
        token: a bearer token, or a function (sync or async) that gives one: asked once, and again after a 401.
        service_key: the key of a trusted service, in place of a token.
        timeout_s: for each request, and for opening a stream.
        retry: of requests that may be repeated: reads, and writes with an idempotency key, which every write has
            unless its documentation says otherwise. Servers without such keys may then do a write twice, when their
            reply is lost: give them ``RetryPolicy(attempts=1)``.
        headers: sent with every request.
        transport: how requests travel; see `taskcast_client.inprocess` for one without a network.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        token: Token | None = None,
        service_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.connection = Connection(
            base_url,
            token=token,
            service_key=service_key,
            timeout_s=timeout_s,
            retry=retry,
            headers=headers,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.connection.aclose()

    async def _await_call(self, call: Call[R]) -> R:
        return await self.connection.run(call)

    async def iterate_tasks(
        self,
        *,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        type: str | None = None,
        tags: Iterable[str] | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Task]:
        """All tasks that match, newest first, page by page."""
        statuses = [status] if isinstance(status, str) else status if status is None else list(status)
        wanted_tags = None if tags is None else list(tags)
        cursor: str | None = None
        while True:
            page = await self.list_tasks(status=statuses, type=type, tags=wanted_tags, limit=page_size, cursor=cursor)
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    # ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def subscribe(
        self,
        task_id: str,
        *,
        types: Iterable[str] | None = None,
        levels: Iterable[Level] | None = None,
        include_status: bool = True,
        since: Cursor | str | None = None,
        series_format: SeriesFormat = "delta",
        limit: int | None = None,
        silence_s: float = SILENCE_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> TaskStream: ...

    @overload
    def subscribe(
        self,
        task_id: str,
        *,
        on_event: OnEvent,
        on_done: OnDone | None = None,
        on_error: OnError | None = None,
        types: Iterable[str] | None = None,
        levels: Iterable[Level] | None = None,
        include_status: bool = True,
        since: Cursor | str | None = None,
        series_format: SeriesFormat = "delta",
        limit: int | None = None,
        silence_s: float = SILENCE_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> Subscription: ...

    def subscribe(
        self,
        task_id: str,
        *,
        on_event: OnEvent | None = None,
        on_done: OnDone | None = None,
        on_error: OnError | None = None,
        types: Iterable[str] | None = None,
        levels: Iterable[Level] | None = None,
        include_status: bool = True,
        since: Cursor | str | None = None,
        series_format: SeriesFormat = "delta",
        limit: int | None = None,
        silence_s: float = SILENCE_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> TaskStream | Subscription:
        """Follow a task: ``async for event in client.subscribe(task_id)``, or by callbacks with ``on_event``.

        Args:
            task_id: of the task.
            on_event: called with each event, sync or async; the next waits for it.
            on_done: called once with the terminal status.
            on_error: called once with what ended the subscription otherwise.
            types: patterns, ``*``, ``a.*`` or exact; None is all.
            levels: by name; None is all.
            include_status: False hides events of type ``taskcast:status``.
            since: an event id (or cursor) to start after; None replays all, series collapsed to snapshots.
            series_format: ``accumulated`` gives running totals in place of deltas.
            limit: without ``since``, replay only the last N events.
            silence_s: a stream that says nothing for so long, not even a heartbeat, is dead and opened again.
            give_up_after_s: how long a cut stream is tried again.

        Returns:
            A `TaskStream`; with ``on_event`` a `Subscription`, which runs at once and can be unsubscribed.
        """
        wanted = StreamFilter(
            types=None if types is None else tuple(types),
            levels=None if levels is None else tuple(levels),
            include_status=include_status,
            since=since,
            series_format=series_format,
            limit=limit,
        )
        stream = TaskStream(self.connection, task_id, wanted, silence_s=silence_s, give_up_after_s=give_up_after_s)
        if on_event is None and on_done is None and on_error is None:
            return stream
        return Subscription(stream, on_event, on_done, on_error)

    def text(self, task_id: str, *, series: str = "response", growing: bool = False) -> TextStream:
        """The text of one accumulate series: what is new of it each time, or with ``growing`` all of it so far.

        Cuts and snapshots do not show. Where a series begins anew, its deltas end with `TextRestarted`.
        """
        return TextStream(self.subscribe(task_id), series, growing=growing)

    def subscribe_all(
        self,
        *,
        types: Iterable[str] | None = None,
        levels: Iterable[Level] | None = None,
        silence_s: float = SILENCE_S,
    ) -> AsyncIterator[Envelope]:
        """Events of all tasks created from now on, without end. There is no cursor: what happens in a cut is missed."""
        return follow_all(
            self.connection,
            None if types is None else tuple(types),
            None if levels is None else tuple(levels),
            silence_s=silence_s,
        )

    async def wait(self, task_id: str) -> Task:
        """Wait until a task has ended; the task with its result or error."""
        await wait_for_end(self.subscribe(task_id, types=("taskcast:status",)))
        return await self.get_task(task_id)

    # ── Producing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def task(
        self,
        *,
        type: str | None = None,
        params: JsonObject | None = None,
        id: str | None = None,
        metadata: JsonObject | None = None,
        ttl: int | None = None,
        tags: list[str] | None = None,
        assign_mode: AssignMode | None = None,
        webhooks: list[JsonObject] | None = None,
        coalescing: Coalescing | None = None,
    ) -> TaskRun:
        """Run a task: ``async with client.task(type="llm.chat") as task:``.

        Entering creates it and makes it ``running``. Leaving completes it with ``task.result``, or fails it with the
        exception that left the block; a cancelled block cancels it.
        """
        given = TaskInput(
            id=id, type=type, params=params, metadata=metadata, ttl=ttl, tags=tags, assign_mode=assign_mode,
            webhooks=webhooks,
        )  # fmt: skip
        return TaskRun(self, given, coalescing=coalescing)

    def attach(
        self, task: Task | str, *, assignment_id: str | None = None, coalescing: Coalescing | None = None
    ) -> TaskRun:
        """Run a task that exists already, as `task` does; entering makes it ``running``, if it is not yet."""
        return TaskRun(self, task, assignment_id=assignment_id, coalescing=coalescing)


TaskcastServerClient = TaskcastClient
"""The name that users of the reference know."""
