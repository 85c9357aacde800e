"""Records Pydantic AI: ``agent.run_stream_events()``, or the events of a node's or a model's stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from taskcast_client.recorders.scribe import Scribe, get, recorded
from taskcast_client.vocabulary import FIRST_MESSAGE, Emitter

C = TypeVar("C")

_CALLS = ("tool-call", "builtin-tool-call")


class _Turn:
    """Which message of the run is being said: parts are numbered anew in each."""

    number = 0
    has_answers = False


def record(task: Emitter, stream: AsyncIterable[C], message_id: str = FIRST_MESSAGE) -> AsyncGenerator[C, None]:
    """The events of a run, published as one message per answer of the model."""
    turn = _Turn()

    async def observe(scribe: Scribe, event: C) -> None:
        await _observe(scribe, event, turn)

    return recorded(task, stream, observe, message_id)


async def _observe(scribe: Scribe, event: object, turn: _Turn) -> None:
    kind = get(event, "event_kind")
    if kind == "part_start":
        if turn.has_answers:
            turn.number, turn.has_answers = turn.number + 1, False
        await _say(scribe, turn.number, get(event, "part"), get(get(event, "part"), "part_kind"), "content")
    elif kind == "part_delta":
        delta = get(event, "delta")
        await _say(scribe, turn.number, delta, get(delta, "part_delta_kind"), "content_delta")
    elif kind == "part_end":
        part = get(event, "part")
        if get(part, "part_kind") in _CALLS:
            await _call(scribe, turn.number, part)
    elif kind in ("function_tool_call", "output_tool_call", "builtin_tool_call"):
        await _call(scribe, turn.number, get(event, "part"))
    elif kind in ("function_tool_result", "output_tool_result", "builtin_tool_result"):
        turn.has_answers = True
        part = get(event, "part") or get(event, "result")
        is_retry = get(part, "part_kind") == "retry-prompt"
        content = get(part, "content")
        await scribe.result(get(part, "tool_call_id"), content, str(content) if is_retry else None)
    elif kind == "agent_run_result":
        usage = get(get(event, "result"), "usage")
        given = usage() if get(usage, "input_tokens") is None and callable(usage) else usage  # once a method
        await scribe.usage(None, given, input="input_tokens", output="output_tokens", total="total_tokens")


async def _say(scribe: Scribe, message: int, part: object, kind: object, field: str) -> None:
    if kind == "text":
        await scribe.text(message, get(part, field))
    elif kind == "thinking":
        await scribe.reasoning(message, get(part, field))


async def _call(scribe: Scribe, message: int, part: object) -> None:
    await scribe.call(message, get(part, "tool_call_id"), get(part, "tool_name"), get(part, "args"))
