"""Every verb of `calls` as a method: awaited on the async client, blocking on the sync one, typed on both.

A verb is a descriptor. On an object with ``_await_call`` it is an async method, on one with ``_block_on_call`` a
blocking one; both have the parameters of the function in `calls` that it was made from.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from taskcast_client import calls
from taskcast_client.calls import Call

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Awaiting(Protocol):
    """An object whose verbs are awaited."""

    async def _await_call(self, call: Call[S]) -> S: ...


class Blocking(Protocol):
    """An object whose verbs block."""

    def _block_on_call(self, call: Call[S]) -> S: ...


class Verb(Generic[P, R]):
    """One function of `calls`, as a method."""

    def __init__(self, build: Callable[P, Call[R]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Verb[P, R]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, Awaitable[R]]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, R]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """The verb, bound to a client."""
        if client is None:
            return self
        run = client._await_call if hasattr(client, "_await_call") else client._block_on_call

        @functools.wraps(self._build)
        def verb(*args: P.args, **kwargs: P.kwargs) -> Any:
            return run(self._build(*args, **kwargs))

        return verb


class Verbs:
    """The REST API."""

    create_task = Verb(calls.create_task)
    create_tasks = Verb(calls.create_tasks)
    get_task = Verb(calls.get_task)
    list_tasks = Verb(calls.list_tasks)
    transition_task = Verb(calls.transition_task)
    complete_task = Verb(calls.complete_task)
    fail_task = Verb(calls.fail_task)
    cancel_task = Verb(calls.cancel_task)
    resolve_task = Verb(calls.resolve_task)
    get_blocked_request = Verb(calls.get_blocked_request)
    delete_task = Verb(calls.delete_task)
    create_ticket = Verb(calls.create_ticket)
    publish_event = Verb(calls.publish_event)
    publish_events = Verb(calls.publish_events)
    publish_lines = Verb(calls.publish_lines)
    get_history = Verb(calls.get_history)
    send_signal = Verb(calls.send_signal)
    tool_result = Verb(calls.tool_result)
    export_task_archive = Verb(calls.export_task_archive)
    import_task_archive = Verb(calls.import_task_archive)
    release_task = Verb(calls.release_task)
    list_workers = Verb(calls.list_workers)
    get_worker = Verb(calls.get_worker)
    set_worker_status = Verb(calls.set_worker_status)
    delete_worker = Verb(calls.delete_worker)
    get_worker_events = Verb(calls.get_worker_events)
    pull_task = Verb(calls.pull_task)
    send_heartbeat = Verb(calls.send_heartbeat)
    decline_task = Verb(calls.decline_task)
    get_server_info = Verb(calls.get_server_info)
    get_health = Verb(calls.get_health)
    get_readiness = Verb(calls.get_readiness)
    get_health_detail = Verb(calls.get_health_detail)
    create_admin_token = Verb(calls.create_admin_token)
    list_dead_letters = Verb(calls.list_dead_letters)
    retry_dead_letter = Verb(calls.retry_dead_letter)
    discard_dead_letter = Verb(calls.discard_dead_letter)
    get_metrics = Verb(calls.get_metrics)
    get_config = Verb(calls.get_config)
    validate_config = Verb(calls.validate_config)
    change_config = Verb(calls.change_config)
