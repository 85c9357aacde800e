"""What all recorders share: messages that begin with their first word, and tool calls put together from pieces."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, TypeVar

from attrs import define, field

from taskcast_client.vocabulary import FIRST_MESSAGE, Chat, Emitter
from taskcast_client.wire import dumps

C = TypeVar("C")
Key = object
"""By which a library tells its messages, and the calls of a message, from each other."""


@define
class _Call:
    """A tool call as far as its pieces have come."""

    message: Key
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(factory=list)


class Scribe:
    """Writes down what a stream says."""

    def __init__(self, task: Emitter, first_message: str = FIRST_MESSAGE) -> None:
        self.chat = Chat(task, first_message)
        self._messages: dict[Key, str] = {}
        self._calls: dict[Key, _Call] = {}
        self._told: set[str] = set()

    async def message(self, key: Key, role: str = "assistant", name: str | None = None) -> str:
        """The id of a message; it begins with the first word about it."""
        if key not in self._messages:
            self._messages[key] = await self.chat.message(role, name=name)
        return self._messages[key]

    async def text(self, key: Key, delta: str | None) -> None:
        """A message's text goes on."""
        if delta:
            await self.chat.text(delta, await self.message(key))

    async def reasoning(self, key: Key, delta: str | None) -> None:
        """The model goes on thinking."""
        if delta:
            await self.chat.reasoning(delta, await self.message(key))

    def call_piece(
        self,
        key: Key,
        message: Key,
        *,
        call_id: str | None = None,
        name: str | None = None,
        arguments: str | None = None,
    ) -> None:
        """A piece of a tool call: its arguments are JSON text in pieces."""
        call = self._calls.setdefault(key, _Call(message))
        call.call_id = call_id or call.call_id
        call.name += name or ""
        call.arguments.append(arguments or "")

    async def end_call(self, key: Key) -> None:
        """A tool call is complete."""
        call = self._calls.pop(key, None)
        if call is not None:
            await self.call(call.message, call.call_id or str(key), call.name, "".join(call.arguments))

    async def end_calls(self, message: Key) -> None:
        """All tool calls of a message are complete."""
        for key in [key for key, call in self._calls.items() if call.message == message]:
            await self.end_call(key)

    async def call(self, message: Key, call_id: str, name: str, arguments: Any) -> None:
        """A whole tool call; one that was told already is not told again."""
        if call_id not in self._told:
            self._told.add(call_id)
            await self.chat.tool_call(call_id, name, _arguments(arguments), await self.message(message))

    async def result(self, call_id: str, result: Any, error: str | None = None) -> None:
        """What a tool answered."""
        await self.chat.tool_result(call_id, plain(result), error=error)

    async def usage(self, message: Key, given: object, *, input: str, output: str, total: str | None = None) -> None:
        """What it cost; ``given`` has the figures as attributes (or items) of these names."""
        if given is not None:
            await self.chat.usage(
                input_tokens=get(given, input),
                output_tokens=get(given, output),
                total_tokens=None if total is None else get(given, total),
                message_id=self._messages.get(message),
            )

    async def end(self) -> None:
        """The stream is over: calls whose end nobody told are complete, too."""
        for key in list(self._calls):
            await self.end_call(key)


async def recorded(
    task: Emitter,
    stream: AsyncIterable[C],
    observe: Callable[[Scribe, C], Awaitable[None]],
    message_id: str = FIRST_MESSAGE,
) -> AsyncGenerator[C, None]:
    """The chunks of a stream, each written down before it is passed on."""
    scribe = Scribe(task, message_id)
    try:
        async for chunk in stream:
            await observe(scribe, chunk)
            yield chunk
        await scribe.end()
    except Exception as error:
        await scribe.chat.error(str(error) or type(error).__name__, type(error).__name__)
        raise


def get(value: object, name: str) -> Any:
    """An attribute, or an item of a mapping; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def plain(value: Any) -> Any:
    """A value as JSON has it: models by their own export, what else is no JSON as its text."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    try:
        dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value


def _arguments(arguments: Any) -> Any:
    """Arguments as an object where they are JSON text, as models write them; else as they are."""
    if not isinstance(arguments, str):
        return plain(arguments)
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments
