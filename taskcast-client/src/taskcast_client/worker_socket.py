"""A lane's WebSocket: offers and races in, claims out. Needs the extra ``workers``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskcast_client.client import TaskcastClient
from taskcast_client.errors import ClientError, refused
from taskcast_client.models import MatchRule, TagMatch, Task, dumps, loads, to_wire
from taskcast_client.retries import RetryPolicy
from taskcast_client.worker import Lane

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import InvalidStatus

_log = logging.getLogger(__name__)

_AGAIN = RetryPolicy(first_s=0.1, longest_s=10.0)
_FINAL = frozenset({400, 401, 403, 404, 426})
_OPEN_S = 30.0
_SILENCE_S = 20.0  # between two pings of ours; a peer that does not answer is gone

Start = Callable[[Lane, Task | str, str | None], None]
Lose = Callable[[Lane, str], None]


class WorkerSocket:
    """Keeps one lane connected: registers, takes what it has room for, hears of cancellations."""

    def __init__(self, client: TaskcastClient, lane: Lane, start: Start, lose: Lose) -> None:
        self._client, self._lane, self._start, self._lose = client, lane, start, lose

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
                    async for text in socket:
                        failures = 0
                        await self._hear(socket, loads(text))
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
            self._start(self._lane, task_id, message.get("assignmentId"))
        elif kind == "cancelled":
            self._lose(self._lane, task_id)
        elif kind in ("claimed", "error"):
            _log.debug("worker %s: %s", self._lane.worker_id, message)

    async def _say(self, socket: ClientConnection, **message: Any) -> None:
        await socket.send(dumps(message).decode())
