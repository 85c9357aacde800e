"""Reading a stream to its end across cuts: back off, connect again, go on behind the last frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping

from taskcast_core.backoff import Backoff
from taskcast_server.cli.http import Api, ApiError, Unreachable
from taskcast_server.cli.sse import Frame

DONE = "taskcast.done"
PATIENCE_S = 300.0
"""How long a server that was there may be away."""


async def follow(
    api: Api,
    path: str,
    params: Mapping[str, str],
    *,
    has_cursor: bool = True,
    must_begin: bool = True,
    on_cut: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[Frame]:
    """The frames of a stream, each once, up to and including ``taskcast.done``.

    Args:
        api: the server.
        path: of the stream.
        params: of the stream.
        has_cursor: whether the stream can be resumed (a task's can; the global one goes on with what is new).
        must_begin: whether an unreachable server is an error before the first connection.
        on_cut: told why, once for each time that the connection is lost.

    Raises:
        Unreachable: away for longer than `PATIENCE_S`. ApiError: the server refuses.
    """
    backoff = Backoff(first_s=0.2, most_s=5.0)
    last_id: str | None = None
    contact = None if must_begin else time.monotonic()
    is_told = False
    while True:
        reason, wait_s = "the server has closed the stream", 0.0
        try:
            async with api.frames(path, params, last_id if has_cursor else None) as frames:
                contact, is_told = time.monotonic(), False
                async for frame in frames:
                    backoff.reset()
                    contact = time.monotonic()
                    last_id = frame.last_id or last_id
                    yield frame
                    if frame.event == DONE:
                        return
        except (Unreachable, ApiError) as error:
            refused = isinstance(error, ApiError) and not error.is_retryable
            if refused or contact is None or time.monotonic() - contact > PATIENCE_S:
                raise
            reason = str(error)
            wait_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
        if not is_told:
            on_cut(reason)
            is_told = True
        await asyncio.sleep(max(wait_s, backoff.next_s()))
