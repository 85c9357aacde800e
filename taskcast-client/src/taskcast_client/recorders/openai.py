"""Records OpenAI's streams: chat completions (also of servers with the same interface), and responses.

Both the raw streams (``stream=True``) and those of the library's ``.stream()`` methods will do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from taskcast_client.recorders.scribe import Scribe, get, recorded
from taskcast_client.vocabulary import FIRST_MESSAGE, Emitter

C = TypeVar("C")

_REASONING = ("reasoning_content", "reasoning")
"""Where servers put what the model thinks; it is not of OpenAI's own interface."""
_REASONING_DELTAS = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_TEXT_DELTAS = ("response.output_text.delta", "response.refusal.delta")
_ENDS = ("response.completed", "response.incomplete", "response.failed")


def record(task: Emitter, stream: AsyncIterable[C], message_id: str = FIRST_MESSAGE) -> AsyncGenerator[C, None]:
    """The chunks of a chat completion, or the events of a response, published as messages."""
    return recorded(task, stream, _observe, message_id)


async def _observe(scribe: Scribe, chunk: object) -> None:
    kind = get(chunk, "type")
    if kind == "chunk":  # of the library's stream(): the raw chunk is inside
        await _observe_chunk(scribe, get(chunk, "chunk"))
    elif isinstance(kind, str):
        await _observe_event(scribe, kind, chunk)
    else:
        await _observe_chunk(scribe, chunk)


async def _observe_chunk(scribe: Scribe, chunk: object) -> None:
    for choice in get(chunk, "choices") or ():
        index, delta = get(choice, "index"), get(choice, "delta")
        for name in _REASONING:
            if isinstance(thought := get(delta, name), str):
                await scribe.reasoning(index, thought)
                break
        await scribe.text(index, get(delta, "content"))
        await scribe.text(index, get(delta, "refusal"))
        for call in get(delta, "tool_calls") or ():
            function = get(call, "function")
            scribe.call_piece(
                (index, get(call, "index")),
                index,
                call_id=get(call, "id"),
                name=get(function, "name"),
                arguments=get(function, "arguments"),
            )
        if get(choice, "finish_reason") is not None:
            await scribe.end_calls(index)
    usage = get(chunk, "usage")
    await scribe.usage(0, usage, input="prompt_tokens", output="completion_tokens", total="total_tokens")


async def _observe_event(scribe: Scribe, kind: str, event: object) -> None:
    if kind in _TEXT_DELTAS:
        await scribe.text(None, get(event, "delta"))
    elif kind in _REASONING_DELTAS:
        await scribe.reasoning(None, get(event, "delta"))
    elif kind == "response.output_item.done":
        item = get(event, "item")
        if get(item, "type") in ("function_call", "custom_tool_call"):
            arguments = get(item, "arguments") if get(item, "type") == "function_call" else get(item, "input")
            await scribe.call(None, get(item, "call_id"), get(item, "name"), arguments)
    elif kind in _ENDS:
        response = get(event, "response")
        usage = get(response, "usage")
        await scribe.usage(None, usage, input="input_tokens", output="output_tokens", total="total_tokens")
        if (error := get(response, "error")) is not None:
            await scribe.chat.error(get(error, "message"), get(error, "code"))
    elif kind == "error":
        await scribe.chat.error(get(event, "message"), get(event, "code"))
