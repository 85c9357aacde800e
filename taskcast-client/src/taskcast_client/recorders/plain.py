"""Records an iterator of text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

from taskcast_client.recorders.scribe import Scribe, recorded
from taskcast_client.vocabulary import FIRST_MESSAGE, Emitter


def record(task: Emitter, stream: AsyncIterable[str], message_id: str = FIRST_MESSAGE) -> AsyncGenerator[str, None]:
    """The pieces of a text, published as one message."""
    return recorded(task, stream, _observe, message_id)


async def _observe(scribe: Scribe, piece: str) -> None:
    await scribe.text(None, piece)
