"""Records LangChain and LangGraph.

Takes what ``model.astream()`` yields (message chunks), ``graph.astream(…, stream_mode="messages")`` (pairs of a chunk
and its metadata; also within ``(mode, item)`` of several modes) and ``astream_events(…, version="v2")`` (events).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, TypeVar

from taskcast_client.recorders.scribe import Scribe, get, recorded
from taskcast_client.vocabulary import FIRST_MESSAGE, Emitter

C = TypeVar("C")

_THOUGHTS = {"reasoning": "reasoning", "thinking": "thinking"}


def record(task: Emitter, stream: AsyncIterable[C], message_id: str = FIRST_MESSAGE) -> AsyncGenerator[C, None]:
    """The chunks or events of a run, published as messages."""
    return recorded(task, stream, _observe, message_id)


async def _observe(scribe: Scribe, item: object) -> None:
    if isinstance(item, tuple):
        inner = item[0]
        if isinstance(inner, str):  # (mode, item)
            if inner == "messages":
                await _observe(scribe, item[1])
        else:
            await _observe_message(scribe, inner)
    elif isinstance(item, dict):
        await _observe_event(scribe, item)
    else:
        await _observe_message(scribe, item)


async def _observe_event(scribe: Scribe, event: dict[str, Any]) -> None:
    kind, data = event.get("event"), event.get("data") or {}
    run_id = event.get("run_id")
    if kind == "on_chat_model_stream":
        await _observe_message(scribe, data.get("chunk"), run_id)
    elif kind == "on_chat_model_end":
        await scribe.end_calls(run_id)
    elif kind == "on_tool_end":
        await _observe_message(scribe, data.get("output"))
    elif kind == "on_tool_error":
        await scribe.chat.notice(f"{event.get('name')}: {data.get('error')}", "warn")


async def _observe_message(scribe: Scribe, message: object, key: object = None) -> None:
    kind = get(message, "type")
    if kind == "tool":
        failed = get(message, "status") == "error"
        content = get(message, "content")
        await scribe.result(str(get(message, "tool_call_id")), content, str(content) if failed else None)
        return
    if kind not in ("AIMessageChunk", "ai"):
        return
    key = key or get(message, "id")
    await _observe_content(scribe, key, get(message, "content"))
    if isinstance(thought := (get(message, "additional_kwargs") or {}).get("reasoning_content"), str):
        await scribe.reasoning(key, thought)
    pieces = get(message, "tool_call_chunks") or ()
    for piece in pieces:
        scribe.call_piece(
            (key, get(piece, "index")),
            key,
            call_id=get(piece, "id"),
            name=get(piece, "name"),
            arguments=get(piece, "args"),
        )
    if not pieces and kind == "ai":
        for call in get(message, "tool_calls") or ():
            await scribe.call(key, get(call, "id"), get(call, "name"), get(call, "args"))
    if get(message, "chunk_position") == "last" or kind == "ai":
        await scribe.end_calls(key)
    usage = get(message, "usage_metadata")
    await scribe.usage(key, usage, input="input_tokens", output="output_tokens", total="total_tokens")


async def _observe_content(scribe: Scribe, key: object, content: object) -> None:
    for block in [content] if isinstance(content, str) else content if isinstance(content, list) else []:
        if isinstance(block, str):
            await scribe.text(key, block)
        elif get(block, "type") == "text":
            await scribe.text(key, get(block, "text"))
        elif (name := _THOUGHTS.get(str(get(block, "type")))) is not None:
            await scribe.reasoning(key, get(block, name))
