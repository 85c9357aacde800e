"""One vocabulary for what a model says in a task: how producers publish it, and how consumers fold it into messages.

=================== ======================================================== ======================================
event type          ``data``                                                 series
=================== ======================================================== ======================================
``llm.message``     ``{messageId, role, name?, content?}`` a message begins
``llm.text``        ``{delta}`` its text goes on                             accumulate, the message's id
``llm.reasoning``   ``{delta}`` what the model thinks                        accumulate, ``<message id>:reasoning``
``llm.tool_call``   ``{callId, name, arguments, messageId?}``
``llm.tool_result`` ``{callId, result?, error?}`` also folded from the signal that answers ``task.call_tool``
``llm.usage``       ``{inputTokens?, outputTokens?, totalTokens?, messageId?}``
``llm.card_status`` ``{cardStatus}`` how the card that shows it is to look   latest, ``card_status``
``llm.notice``      ``{text, level?}`` a word to the user, not of the model
``llm.status``      ``{status}`` what is going on just now                   latest, ``status``
``llm.error``       ``{message, code?}``
``llm.done``        ``{reason?}`` this turn is over
=================== ======================================================== ======================================

The first message of a task is called ``response``, so ``client.text(task_id)`` reads the answer of a simple chat.
`Chat` publishes these events; `Conversation` folds them.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from attrs import define, field

from taskcast_client.models import TOOL_RESULT_SIGNAL, Envelope, Event, JsonObject, Level, SeriesMode, Signal
from taskcast_client.texts import SeriesText

MESSAGE = "llm.message"
TEXT = "llm.text"
REASONING = "llm.reasoning"
TOOL_CALL = "llm.tool_call"
TOOL_RESULT = "llm.tool_result"
USAGE = "llm.usage"
CARD_STATUS = "llm.card_status"
NOTICE = "llm.notice"
STATUS = "llm.status"
ERROR = "llm.error"
DONE = "llm.done"

FIRST_MESSAGE = "response"
_REASONING_SUFFIX = ":reasoning"

Role = Literal["system", "user", "assistant", "tool"]
CardStatus = Literal["connecting", "thinking", "tool_calling", "stable"]


class Emitter(Protocol):
    """What publishes events; a `TaskRun` does."""

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
        """Have an event published."""


# ── Publishing ────────────────────────────────────────────────────────────────────────────────────────────────────


class Chat:
    """Publishes a conversation as events of a task, one verb per event type."""

    def __init__(self, task: Emitter, first_message: str = FIRST_MESSAGE) -> None:
        self._task, self._first, self._count = task, first_message, 0

    async def message(
        self, role: str = "assistant", *, content: str | None = None, name: str | None = None, id: str | None = None
    ) -> str:
        """Begin a message; its id, made up (``response``, ``response-2`` …) unless it is given."""
        self._count += 1
        message_id = id or (self._first if self._count == 1 else f"{self._first}-{self._count}")
        await self._emit(MESSAGE, messageId=message_id, role=role, name=name, content=content)
        return message_id

    async def text(self, delta: str, message_id: str = FIRST_MESSAGE) -> None:
        """Continue a message's text."""
        await self._delta(TEXT, delta, message_id)

    async def reasoning(self, delta: str, message_id: str = FIRST_MESSAGE) -> None:
        """Continue what the model thinks for a message."""
        await self._delta(REASONING, delta, message_id + _REASONING_SUFFIX)

    async def tool_call(self, call_id: str, name: str, arguments: Any, message_id: str | None = None) -> None:
        """The model calls a tool."""
        data = {"callId": call_id, "name": name, "arguments": arguments}
        await self._task.emit(TOOL_CALL, data if message_id is None else {**data, "messageId": message_id})

    async def tool_result(self, call_id: str, result: Any = None, *, error: str | None = None) -> None:
        """What a tool answered, or why it could not."""
        if error is None:
            await self._task.emit(TOOL_RESULT, {"callId": call_id, "result": result})
        else:
            await self._task.emit(TOOL_RESULT, {"callId": call_id, "error": error}, level="warn")

    async def usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        total_tokens: int | None = None,
        message_id: str | None = None,
    ) -> None:
        """What the model's answer cost in tokens."""
        await self._emit(
            USAGE,
            inputTokens=input_tokens,
            outputTokens=output_tokens,
            totalTokens=total_tokens,
            messageId=message_id,
        )

    async def card_status(self, status: CardStatus | str) -> None:
        """How the card that shows the answer is to look."""
        await self._task.emit(CARD_STATUS, {"cardStatus": status}, series_id="card_status", series_mode="latest")

    async def notice(self, text: str, level: Level = "info") -> None:
        """A word to the user that is not of the model."""
        await self._task.emit(NOTICE, {"text": text, "level": level}, level=level)

    async def status(self, status: str) -> None:
        """What is going on just now."""
        await self._task.emit(STATUS, {"status": status}, series_id="status", series_mode="latest")

    async def error(self, message: str, code: str | None = None) -> None:
        """Something went wrong."""
        data = {"message": message} if code is None else {"message": message, "code": code}
        await self._task.emit(ERROR, data, level="error")

    async def done(self, reason: str | None = None) -> None:
        """This turn is over."""
        await self._emit(DONE, reason=reason)

    async def _delta(self, type: str, delta: str, series_id: str) -> None:
        if delta:
            await self._task.emit(
                type, {"delta": delta}, series_id=series_id, series_mode="accumulate", series_acc_field="delta"
            )

    async def _emit(self, type: str, **data: Any) -> None:
        await self._task.emit(type, {name: value for name, value in data.items() if value is not None})


# ── Folding ───────────────────────────────────────────────────────────────────────────────────────────────────────


@define
class ToolCall:
    """A call of a tool, and what became of it: nothing yet, a result, or an error."""

    call_id: str
    name: str
    arguments: Any
    result: Any = None
    error: str | None = None
    is_answered: bool = False


@define
class Message:
    """One message, as far as it has been said."""

    id: str
    role: str = "assistant"
    name: str | None = None
    tool_calls: list[ToolCall] = field(factory=list)
    usage: JsonObject | None = None
    _text: SeriesText = field(factory=SeriesText, repr=False)
    _reasoning: SeriesText = field(factory=SeriesText, repr=False)
    _content: str = ""

    @property
    def text(self) -> str:
        """What it says."""
        return self._content + self._text.text

    @property
    def reasoning(self) -> str:
        """What the model thought."""
        return self._reasoning.text


class Conversation:
    """Folds a task's events into messages; `apply` each event of a stream or of a history, in order.

    Attributes:
        messages: in the order of their beginnings. card_status, status: the newest. usage: of no message in particular.
        notices: their data. error: the last one's data. is_done: whether the turn is over.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.messages: list[Message] = []
        self.notices: list[JsonObject] = []
        self.card_status: str | None = None
        self.status: str | None = None
        self.usage: JsonObject | None = None
        self.error: JsonObject | None = None
        self.is_done = False
        self._by_id: dict[str, Message] = {}
        self._calls: dict[str, ToolCall] = {}

    def apply(self, event: Envelope | Event) -> bool:
        """Take in one event; whether it was one of this vocabulary."""
        if isinstance(event, Envelope) and event.is_gap:
            self._begin()
            return True
        signal = Signal.of(event)
        if signal is not None:
            return self._apply_signal(signal)
        data = event.data if isinstance(event.data, dict) else {}
        if event.type == TEXT:
            self._message(event.series_id or FIRST_MESSAGE)._text.apply(event)
        elif event.type == REASONING:
            message_id = (event.series_id or FIRST_MESSAGE).removesuffix(_REASONING_SUFFIX)
            self._message(message_id)._reasoning.apply(event)
        elif event.type == MESSAGE:
            message = self._message(str(data.get("messageId", FIRST_MESSAGE)))
            message.role, message.name = data.get("role", "assistant"), data.get("name")
            message._content = data.get("content") or ""
        elif event.type in (TOOL_CALL, TOOL_RESULT):
            self._apply_tool(event.type, data)
        else:
            return self._apply_fact(event.type, data)
        return True

    def _message(self, message_id: str) -> Message:
        message = self._by_id.get(message_id)
        if message is None:
            message = self._by_id[message_id] = Message(message_id)
            self.messages.append(message)
        return message

    def _apply_tool(self, type: str, data: JsonObject) -> None:
        call_id = str(data.get("callId", ""))
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = ToolCall(call_id, "", None)
            last = self.messages[-1].id if self.messages else FIRST_MESSAGE
            self._message(str(data.get("messageId", last))).tool_calls.append(call)
        if type == TOOL_CALL:
            call.name, call.arguments = str(data.get("name", "")), data.get("arguments")
        else:
            call.result, call.error, call.is_answered = data.get("result"), data.get("error"), True

    def _apply_signal(self, signal: Signal) -> bool:
        """The answer to a call, before whoever called has taken it; other signals are not of this vocabulary."""
        is_answer = signal.type == TOOL_RESULT_SIGNAL and isinstance(signal.data, dict)
        if not is_answer or str(signal.data.get("callId")) not in self._calls:
            return False
        self._apply_tool(TOOL_RESULT, signal.data)
        return True

    def _apply_fact(self, type: str, data: JsonObject) -> bool:
        if type == USAGE:
            message = self._by_id.get(str(data.get("messageId")))
            if message is None:
                self.usage = data
            else:
                message.usage = data
        elif type == CARD_STATUS:
            self.card_status = data.get("cardStatus")
        elif type == NOTICE:
            self.notices.append(data)
        elif type == STATUS:
            self.status = data.get("status")
        elif type == ERROR:
            self.error = data
        elif type == DONE:
            self.is_done = True
        else:
            return False
        return True
