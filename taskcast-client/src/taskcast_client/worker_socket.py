"""A lane's WebSocket: offers and races in, claims out. Needs the extra ``workers``."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskcast_client.client import TaskcastClient
from taskcast_client.errors import ClientError, refused
from taskcast_client.models import MatchRule, TagMatch, Task
from taskcast_client.retries import RetryPolicy
from taskcast_client.wire import dumps, loads, to_wire
from taskcast_client.worker import Lane

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import InvalidStatus

_log = logging.getLogger(__name__)

_AGAIN = RetryPolicy(first_s=0.1, longest_s=10.0)
_FINAL = frozenset({400, 401, 403, 404, 426})
_OPEN_S = 30.0
_SILENCE_S = 20.0  # between two pings of ours; a peer that does not answer is gone
_MISSED = 1000
_CLAIMS = 20
"""So many races that were lost for want of room are kept in mind, and so often is each claimed."""

Start = Callable[[Lane, Task | str, str | None], None]
Lose = Callable[[Lane, str], None]


class WorkerSocket:
    """Keeps one lane connected: registers, takes what it has room for, hears of cancellations."""

    def __init__(self, client: TaskcastClient, lane: Lane, start: Start, lose: Lose) -> None:
        self._client, self._lane, self._start, self._lose = client, lane, start, lose
        self._missed: OrderedDict[str, int] = OrderedDict()  # claims so far, by task

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            Unauthorized, Forbidden, NotFound: the server takes no such worker. ImportError: the extra is missing.
        """
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus, WebSocketException

        failures = 0
        while True:
            try:
                url, headers = await self._client.connection.socket_address("/workers/ws")
                async with connect(
                    url, additional_headers=headers, open_timeout=_OPEN_S, ping_interval=_SILENCE_S, max_size=4 << 20
                ) as socket:
                    await self._say(socket, type="register", **self._facts())
                    again = asyncio.create_task(self._claim_again(socket), name="taskcast claims")
                    try:
                        async for text in socket:
                            failures = 0
                            await self._hear(socket, loads(text))
                    finally:
                        again.cancel()
                        await asyncio.gather(again, return_exceptions=True)
            except InvalidStatus as error:
                self._refused(error, failures)
            except (OSError, TimeoutError, WebSocketException) as error:
                _log.info("worker %s is not connected, trying again: %s", self._lane.worker_id, error)
            failures += 1
            await asyncio.sleep(_AGAIN.pause_s(failures))

    def _refused(self, error: InvalidStatus, failures: int) -> None:
        status = error.response.status_code
        try:
            body: Any = loads(bytes(error.response.body or b""))
        except ClientError:
            body = None
        is_token_worth_renewing = status == 401 and failures == 0 and self._client.connection.renew_token()
        if status in _FINAL and not is_token_worth_renewing:
            raise refused(status, body, dict(error.response.headers)) from error

    def _facts(self) -> dict[str, Any]:
        handler = self._lane.handler
        rule = MatchRule(list(handler.types) or None, TagMatch(all=list(handler.tags)) if handler.tags else None)
        return {"workerId": self._lane.worker_id, "capacity": handler.capacity, "matchRule": to_wire(rule)}

    async def _hear(self, socket: ClientConnection, message: Any) -> None:
        kind = message.get("type") if isinstance(message, dict) else None
        task_id = str(message.get("taskId", "")) if kind is not None else ""
        if kind == "ping":
            await self._say(socket, type="pong")
        elif kind in ("offer", "available"):
            # The server knows when there is room, and sooner than we do: it frees a slot before we hear of it.
            await self._say(socket, type="accept" if kind == "offer" else "claim", taskId=task_id)
        elif kind == "assigned" or (kind == "claimed" and message.get("success") is True):
            self._missed.pop(task_id, None)
            self._start(self._lane, task_id, message.get("assignmentId"))
        elif kind == "cancelled":
            self._lose(self._lane, task_id)
        elif kind in ("claimed", "error"):
            _log.debug("worker %s: %s", self._lane.worker_id, message)
            if kind == "claimed":
                self._miss(task_id)

    def _miss(self, task_id: str) -> None:
        """A race is lost: to somebody else, or for want of room; then it may be that nobody has it."""
        claims = self._missed.pop(task_id, 0) + 1
        if self._lane.running and claims < _CLAIMS:
            self._missed[task_id] = claims
            if len(self._missed) > _MISSED:
                self._missed.popitem(last=False)

    async def _claim_again(self, socket: ClientConnection) -> None:
        """Whenever a task has ended, claim what was missed, the longest waiting first."""
        while True:
            await self._lane.room.wait()
            self._lane.room.clear()
            for task_id in list(self._missed)[: self._lane.handler.capacity]:
                await self._say(socket, type="claim", taskId=task_id)

    async def _say(self, socket: ClientConnection, **message: Any) -> None:
        await socket.send(dumps(message).decode())
