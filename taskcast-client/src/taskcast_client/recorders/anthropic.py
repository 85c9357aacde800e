"""Records Anthropic's message streams, raw (``stream=True``) or of the library's ``messages.stream()``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from taskcast_client.recorders.scribe import Scribe, get, plain, recorded
from taskcast_client.vocabulary import FIRST_MESSAGE, Emitter

C = TypeVar("C")

_CALLS = ("tool_use", "server_tool_use")


def record(task: Emitter, stream: AsyncIterable[C], message_id: str = FIRST_MESSAGE) -> AsyncGenerator[C, None]:
    """The events of a stream, published as one message."""
    usage: dict[str, int] = {}

    async def observe(scribe: Scribe, event: C) -> None:
        await _observe(scribe, event, usage)

    return recorded(task, stream, observe, message_id)


async def _observe(scribe: Scribe, event: object, usage: dict[str, int]) -> None:
    kind = get(event, "type")
    if kind == "message_start":
        message = get(event, "message")
        await scribe.message(None, get(message, "role") or "assistant")
        _add_usage(usage, get(message, "usage"))
    elif kind == "content_block_start":
        await _begin_block(scribe, get(event, "index"), get(event, "content_block"))
    elif kind == "content_block_delta":
        await _continue_block(scribe, get(event, "index"), get(event, "delta"))
    elif kind == "content_block_stop":
        await scribe.end_call(get(event, "index"))
    elif kind == "message_delta":
        _add_usage(usage, get(event, "usage"))
    elif kind == "message_stop" and usage:
        await scribe.usage(None, usage, input="input_tokens", output="output_tokens")


async def _begin_block(scribe: Scribe, index: int, block: object) -> None:
    kind = get(block, "type")
    if kind == "text":
        await scribe.text(None, get(block, "text"))
    elif kind == "thinking":
        await scribe.reasoning(None, get(block, "thinking"))
    elif kind in _CALLS:
        scribe.call_piece(index, None, call_id=get(block, "id"), name=get(block, "name"))
    elif isinstance(kind, str) and kind.endswith("_tool_result"):
        content = get(block, "content")
        items = [plain(each) for each in content] if isinstance(content, list) else plain(content)
        await scribe.result(get(block, "tool_use_id"), items)


async def _continue_block(scribe: Scribe, index: int, delta: object) -> None:
    kind = get(delta, "type")
    if kind == "text_delta":
        await scribe.text(None, get(delta, "text"))
    elif kind == "thinking_delta":
        await scribe.reasoning(None, get(delta, "thinking"))
    elif kind == "input_json_delta":
        scribe.call_piece(index, None, arguments=get(delta, "partial_json"))


def _add_usage(usage: dict[str, int], given: object) -> None:
    """The newest figures count: those of the end are totals."""
    for name in ("input_tokens", "output_tokens"):
        if isinstance(value := get(given, name), int):
            usage[name] = value
