"""The server that the flags of a command name: the flags themselves, and what a command does with them."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate

from attrs import field

from taskcast_core.values import frozen
from taskcast_server.cli.flags import NodeOption, OutputOption, TokenOption, UrlOption
from taskcast_server.cli.output import OutputFormat, tell_result
from taskcast_server.cli.targets import Target, choose

if TYPE_CHECKING:
    from taskcast_server.cli.http import Api


@frozen
class Remote:
    """Which server a command talks to and as whom, and how it prints what it is told."""

    node: str | None = None
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    output: OutputFormat = OutputFormat.TEXT

    def target(self) -> Target:
        """The server. Raises as ``choose``."""
        return choose(self.node, self.url, self.token)

    def api(self) -> Api:
        """A connection to it. Raises as ``choose``."""
        from taskcast_server.cli.http import Api

        return Api(self.target())

    def call(self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None) -> Any:
        """Send one request, and give the reply's JSON; None where the reply is empty.

        Raises:
            CliError: the server refused, or did not answer.
        """

        async def send() -> Any:
            async with self.api() as api:
                return await api.request(method, path, body, params=params)

        return asyncio.run(send())

    @property
    def is_json(self) -> bool:
        """Whether results are printed as JSON."""
        return self.output is OutputFormat.JSON

    def tell(self, value: Any, text: str) -> None:
        """Print a result. See ``tell_result``."""
        tell_result(value, text, self.output)


def _flags(
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """What every command that talks to a server has."""


_FLAGS = inspect.signature(_flags, eval_str=True).parameters


def with_remote(command: Callable[Concatenate[Remote, ...], None]) -> Callable[..., None]:
    """Give a command the flags of `Remote` behind its own, and what they say as its first argument."""

    @functools.wraps(command)
    def with_flags(**given: Any) -> None:
        flags = {name: given.pop(name) for name in _FLAGS}
        command(Remote(**flags), **given)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    with_flags.__signature__ = inspect.Signature([*own, *_FLAGS.values()])  # type: ignore[attr-defined]
    return with_flags
