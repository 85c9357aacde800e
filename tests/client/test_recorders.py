"""Streams built of the libraries' own types become the same vocabulary; nothing of them is lost or changed.

The libraries are heavy, so each is imported by the tests that need it.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import pytest

from taskcast_client import Event
from taskcast_client.models import Level, SeriesMode
from taskcast_client.recorders import anthropic as record_anthropic
from taskcast_client.recorders import langchain as record_langchain
from taskcast_client.recorders import openai as record_openai
from taskcast_client.recorders import plain as record_plain
from taskcast_client.recorders import pydantic_ai as record_pydantic_ai
from taskcast_client.vocabulary import Conversation, Message

pytestmark = pytest.mark.anyio

C = TypeVar("C")


class Log:
    """Keeps what is emitted, as a task's log would."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def emit(
        self,
        type: str,
        data: Any = None,
        *,
        level: Level = "info",
        series_id: str | None = None,
        series_mode: SeriesMode | None = None,
        series_acc_field: str | None = None,
    ) -> None:
        at = len(self.events)
        self.events.append(Event(f"{at}", "t", at, at, type, level, data, series_id, series_mode, series_acc_field))

    @property
    def types(self) -> list[str]:
        """Types in order, runs of one type once."""
        found: list[str] = []
        for event in self.events:
            if not found or found[-1] != event.type.removeprefix("llm."):
                found.append(event.type.removeprefix("llm."))
        return found

    def fold(self) -> Conversation:
        conversation = Conversation()
        for event in self.events:
            assert conversation.apply(event), event.type
        return conversation


async def streamed(items: Sequence[C]) -> AsyncIterator[C]:
    for item in items:
        yield item


def only(conversation: Conversation) -> Message:
    assert len(conversation.messages) == 1
    return conversation.messages[0]


# ── OpenAI ────────────────────────────────────────────────────────────────────────────────────────────────────────


def completion_chunk(delta: dict[str, Any] | None, index: int = 0, finish: str | None = None, **more: Any) -> Any:
    import openai.types.chat as oc

    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    return oc.ChatCompletionChunk.model_validate(
        {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": choices, **more}
    )


def call_chunk(index: int, function: dict[str, str], **more: str) -> Any:
    return completion_chunk({"tool_calls": [{"index": index, "function": function, **more}]})


async def test_openai_chat_completions() -> None:
    chunks = [
        completion_chunk({"role": "assistant", "content": ""}),
        completion_chunk({"reasoning_content": "Let me "}),
        completion_chunk({"reasoning_content": "see."}),
        completion_chunk({"content": "Hel"}),
        completion_chunk({"content": "lo"}),
        call_chunk(0, {"name": "add", "arguments": ""}, id="call_1", type="function"),
        call_chunk(0, {"arguments": '{"a":'}),
        call_chunk(1, {"name": "now", "arguments": ""}, id="call_2", type="function"),
        call_chunk(0, {"arguments": " 1}"}),
        completion_chunk({}, finish="tool_calls"),
        completion_chunk(None, usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}),
    ]  # fmt: skip
    log = Log()
    assert [chunk async for chunk in record_openai.record(log, streamed(chunks))] == chunks
    message = only(log.fold())
    assert (message.id, message.role, message.text, message.reasoning) == (
        "response",
        "assistant",
        "Hello",
        "Let me see.",
    )
    assert [(call.call_id, call.name, call.arguments) for call in message.tool_calls] == [
        ("call_1", "add", {"a": 1}),
        ("call_2", "now", {}),
    ]
    assert message.usage == {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12, "messageId": "response"}
    assert log.types == ["message", "reasoning", "text", "tool_call", "usage"]


async def test_openai_several_choices() -> None:
    chunks = [completion_chunk({"content": text}, index) for text, index in [("a", 0), ("x", 1), ("b", 0), ("y", 1)]]
    log = Log()
    async for _ in record_openai.record(log, streamed(chunks)):
        pass
    assert [(each.id, each.text) for each in log.fold().messages] == [("response", "ab"), ("response-2", "xy")]


def responses_response(**more: Any) -> dict[str, Any]:
    return {
        "id": "r", "created_at": 1, "model": "m", "object": "response", "output": [], "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [], **more,
    }  # fmt: skip


async def test_openai_responses() -> None:
    import openai.types.responses as orr

    place = {"item_id": "i", "output_index": 0, "sequence_number": 1}
    call = {"id": "f", "type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":1}'}
    usage = {
        "input_tokens": 3, "output_tokens": 4, "total_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    events = [
        orr.ResponseReasoningSummaryTextDeltaEvent(
            type="response.reasoning_summary_text.delta", delta="Hm.", summary_index=0, **place
        ),
        *[
            orr.ResponseTextDeltaEvent(
                type="response.output_text.delta", delta=delta, content_index=0, logprobs=[], **place
            )
            for delta in ("Hel", "lo")
        ],
        orr.ResponseFunctionCallArgumentsDeltaEvent(
            type="response.function_call_arguments.delta", delta='{"a":1}', **place
        ),
        orr.ResponseOutputItemDoneEvent.model_validate(
            {"type": "response.output_item.done", "item": call, "output_index": 1, "sequence_number": 5}
        ),
        orr.ResponseCompletedEvent.model_construct(
            type="response.completed", sequence_number=6, response=orr.Response.model_construct(
                **{**responses_response(), "usage": orr.ResponseUsage.model_validate(usage), "error": None}
            ),
        ),
    ]  # fmt: skip
    log = Log()
    assert [event async for event in record_openai.record(log, streamed(events))] == events
    message = only(log.fold())
    assert (message.text, message.reasoning) == ("Hello", "Hm.")
    assert [(each.call_id, each.arguments) for each in message.tool_calls] == [("call_1", {"a": 1})]
    assert message.usage
    assert message.usage["totalTokens"] == 7
    failing = [
        orr.ResponseErrorEvent(type="error", code="rate_limit", message="slow down", sequence_number=1, param=None)
    ]
    log = Log()
    async for _ in record_openai.record(log, streamed(failing)):
        pass
    assert log.fold().error == {"message": "slow down", "code": "rate_limit"}


# ── Anthropic ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_anthropic() -> None:
    import anthropic.types as at

    start = {
        "id": "m", "type": "message", "role": "assistant", "model": "x", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
    }  # fmt: skip
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    call = {"type": "tool_use", "id": "tu", "name": "add", "input": {}}
    raw: list[tuple[type[Any], dict[str, Any]]] = [
        (at.RawMessageStartEvent, {"type": "message_start", "message": start}),
        (at.RawContentBlockStartEvent, {"index": 0, "content_block": thinking}),
        (at.RawContentBlockDeltaEvent, {"index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}}),
        (at.RawContentBlockDeltaEvent, {"index": 0, "delta": {"type": "signature_delta", "signature": "s"}}),
        (at.RawContentBlockStopEvent, {"index": 0}),
        (at.RawContentBlockStartEvent, {"index": 1, "content_block": {"type": "text", "text": ""}}),
        (at.RawContentBlockDeltaEvent, {"index": 1, "delta": {"type": "text_delta", "text": "Hel"}}),
        (at.RawContentBlockDeltaEvent, {"index": 1, "delta": {"type": "text_delta", "text": "lo"}}),
        (at.RawContentBlockStopEvent, {"index": 1}),
        (at.RawContentBlockStartEvent, {"index": 2, "content_block": call}),
        (at.RawContentBlockDeltaEvent, {"index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}}),
        (at.RawContentBlockDeltaEvent, {"index": 2, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}}),
        (at.RawContentBlockStopEvent, {"index": 2}),
        (at.RawMessageDeltaEvent, {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}}),
        (at.RawMessageStopEvent, {}),
    ]  # fmt: skip
    events = [
        cls.model_validate({"type": cls.model_fields["type"].annotation.__args__[0], **data}) for cls, data in raw
    ]
    log = Log()
    assert [event async for event in record_anthropic.record(log, streamed(events))] == events
    message = only(log.fold())
    assert (message.role, message.text, message.reasoning) == ("assistant", "Hello", "Hm.")
    assert [(each.call_id, each.name, each.arguments) for each in message.tool_calls] == [("tu", "add", {"a": 1})]
    assert message.usage == {"inputTokens": 9, "outputTokens": 5, "messageId": "response"}


# ── LangChain and LangGraph ───────────────────────────────────────────────────────────────────────────────────────


async def test_langchain_messages_of_a_model() -> None:
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    model = GenericFakeChatModel(messages=iter([AIMessage("Hello there you")]))
    log = Log()
    chunks = [chunk async for chunk in record_langchain.record(log, model.astream("hi"))]
    assert "".join(str(chunk.content) for chunk in chunks) == "Hello there you"
    assert only(log.fold()).text == "Hello there you"


async def test_langchain_events_of_a_model() -> None:
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    model = GenericFakeChatModel(messages=iter([AIMessage("Hello there")]))
    log = Log()
    kinds = [event["event"] async for event in record_langchain.record(log, model.astream_events("hi", version="v2"))]
    assert {"on_chat_model_start", "on_chat_model_stream", "on_chat_model_end"} <= set(kinds)
    assert only(log.fold()).text == "Hello there"


async def test_langchain_tool_calls_thoughts_and_usage() -> None:
    from langchain_core.messages import AIMessageChunk, ToolMessage
    from langchain_core.messages.tool import tool_call_chunk as calling

    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    chunks = [
        AIMessageChunk(content=[{"type": "reasoning", "reasoning": "Hm."}], id="m"),
        AIMessageChunk(content=[{"type": "text", "text": "Hello"}], id="m"),
        AIMessageChunk(content="", id="m", tool_call_chunks=[calling(name="add", args='{"a"', id="c1", index=0)]),
        AIMessageChunk(content="", id="m", tool_call_chunks=[calling(args=": 1}", index=0)]),
        AIMessageChunk(content="", id="m", usage_metadata=usage, chunk_position="last"),
        ToolMessage(content="3", tool_call_id="c1"),
        ToolMessage(content="no", tool_call_id="c2", status="error"),
        AIMessageChunk(content="Done.", id="m2", chunk_position="last"),
    ]
    log = Log()
    pairs = [(chunk, {"langgraph_node": "x"}) for chunk in chunks]
    async for _ in record_langchain.record(log, streamed(pairs)):
        pass
    first, second = log.fold().messages
    assert (first.text, first.reasoning, second.text) == ("Hello", "Hm.", "Done.")
    call = first.tool_calls[0]
    assert (call.name, call.arguments, call.result) == ("add", {"a": 1}, "3")
    assert first.tool_calls[1].error == "no"
    assert first.usage
    assert first.usage["totalTokens"] == 3


async def test_langgraph() -> None:
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.graph import END, START, MessagesState, StateGraph

    model = GenericFakeChatModel(messages=iter([AIMessage("Hello from a graph")]))

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    compiled = graph.compile()
    given = {"messages": [HumanMessage("hi")]}
    for mode in ("messages", ["messages", "updates"]):
        model.messages = iter([AIMessage("Hello from a graph")])
        log = Log()
        async for _ in record_langchain.record(log, compiled.astream(given, stream_mode=mode)):  # type: ignore[arg-type]
            pass
        assert only(log.fold()).text == "Hello from a graph"


# ── Pydantic AI ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pydantic_ai() -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

    async def model(messages: list[Any], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        if len(messages) == 1:
            yield "Let me "
            yield "look."
            yield {1: DeltaToolCall(name="add", json_args='{"a": 1,', tool_call_id="c1")}
            yield {1: DeltaToolCall(json_args=' "b": 2}')}
        else:
            yield "It is "
            yield "3."

    agent = Agent(FunctionModel(stream_function=model))

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    log = Log()
    async with agent.run_stream_events("1 + 2?") as events:
        async for _ in record_pydantic_ai.record(log, events):
            pass
    conversation = log.fold()
    assert [(each.id, each.text) for each in conversation.messages] == [
        ("response", "Let me look."), ("response-2", "It is 3."),
    ]  # fmt: skip
    (call,) = conversation.messages[0].tool_calls
    assert (call.name, call.arguments, call.result, call.is_answered) == ("add", {"a": 1, "b": 2}, 3, True)
    assert conversation.usage
    assert conversation.usage["outputTokens"] > 0


# ── Plain text, and what goes wrong ───────────────────────────────────────────────────────────────────────────────


async def test_plain_text() -> None:
    log = Log()
    assert [piece async for piece in record_plain.record(log, streamed(["Hel", "", "lo"]), "answer")] == [
        "Hel",
        "",
        "lo",
    ]
    assert (only(log.fold()).id, only(log.fold()).text) == ("answer", "Hello")


async def test_a_stream_that_fails() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "Hel"
        raise LookupError("lost")

    log = Log()
    with pytest.raises(LookupError):
        async for _ in record_plain.record(log, broken()):
            pass
    assert log.fold().error == {"message": "lost", "code": "LookupError"}
    assert log.events[-1].level == "error"
