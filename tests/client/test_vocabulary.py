"""What is published with `Chat` and read back through a real server folds into the same conversation, however read."""

import pytest

from taskcast_client import Envelope, TaskcastClient
from taskcast_client.models import GAP_TYPE
from taskcast_client.vocabulary import Chat, Conversation

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


async def told(client: TaskcastClient) -> str:
    async with client.task(type="llm.chat") as task:
        chat = Chat(task)
        await chat.card_status("connecting")
        await chat.message("user", content="What is 1 + 2?", id="question")
        answer = await chat.message()
        assert answer == "response-2"
        await chat.card_status("thinking")
        for word in ("Let ", "me ", "see."):
            await chat.reasoning(word, answer)
        for n in range(20):
            await chat.text(f"{n} ", answer)
            if n == 10:
                await task.flush()
        await chat.tool_call("c1", "add", {"a": 1}, answer)
        await chat.tool_call("c2", "fail", None, answer)
        await chat.tool_result("c1", {"sum": 3})
        await chat.tool_result("c2", error="no")
        await chat.usage(input_tokens=1, output_tokens=2, message_id=answer)
        await chat.usage(total_tokens=9)
        await chat.status("working")
        await chat.notice("careful", "warn")
        await chat.error("oops", "code")
        await chat.card_status("stable")
        await chat.done("stop")
    return task.id


def check(conversation: Conversation) -> None:
    question, answer = conversation.messages
    assert (question.id, question.role, question.text) == ("question", "user", "What is 1 + 2?")
    assert (answer.text, answer.reasoning) == ("".join(f"{n} " for n in range(20)), "Let me see.")
    first, second = answer.tool_calls
    assert (first.name, first.arguments, first.result, first.is_answered) == ("add", {"a": 1}, {"sum": 3}, True)
    assert (second.error, second.result) == ("no", None)
    assert answer.usage == {"inputTokens": 1, "outputTokens": 2, "messageId": "response-2"}
    assert conversation.usage == {"totalTokens": 9}
    assert (conversation.card_status, conversation.status, conversation.is_done) == ("stable", "working", True)
    assert conversation.notices == [{"text": "careful", "level": "warn"}]
    assert conversation.error == {"message": "oops", "code": "code"}


async def test_it_is_the_same_from_a_stream_a_resumed_stream_and_the_history(client: TaskcastClient) -> None:
    task_id = await told(client)
    history = await client.get_history(task_id)
    past = Conversation()
    for event in history:
        past.apply(event)
    check(past)
    live = Conversation()
    async for envelope in client.subscribe(task_id):
        live.apply(envelope)
    check(live)
    for at in range(len(history)):
        resumed = Conversation()
        for event in history[: at + 1]:
            resumed.apply(event)
        async for envelope in client.subscribe(task_id, since=history[at].id):
            resumed.apply(envelope)
        check(resumed)


def test_a_gap_begins_anew_and_other_events_are_left_alone() -> None:
    conversation = Conversation()
    text = Envelope(0, 0, "e", "t", "llm.text", 0, data={"delta": "x"}, series_id="response", series_mode="accumulate")
    assert conversation.apply(text)
    assert [message.text for message in conversation.messages] == ["x"]
    assert not conversation.apply(Envelope(1, 1, "e", "t", "of.mine", 0, data=None))
    assert conversation.apply(Envelope(0, -1, "", "t", GAP_TYPE, 0, data={}))
    assert conversation.messages == []
