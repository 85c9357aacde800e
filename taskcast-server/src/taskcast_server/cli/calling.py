"""One request to the server that the flags of a command name."""

from __future__ import annotations

import asyncio
from typing import Any

from taskcast_server.cli.targets import choose


def call(
    node: str | None,
    url: str | None,
    token: str | None,
    method: str,
    path: str,
    body: Any = None,
    params: dict[str, str] | None = None,
) -> Any:
    """Send it, and give the reply's JSON; None where the reply is empty.

    Raises:
        CliError: the server refused, or did not answer.
    """
    from taskcast_server.cli.http import Api

    async def send() -> Any:
        async with Api(choose(node, url, token)) as api:
            return await api.request(method, path, body, params=params)

    return asyncio.run(send())
