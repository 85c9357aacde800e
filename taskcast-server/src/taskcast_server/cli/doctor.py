"""``taskcast ping`` and ``taskcast doctor``: is the server there, and how is it?"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from taskcast_server.cli.flags import NodeOption, OutputOption, UrlOption
from taskcast_server.cli.output import OutputFormat, tell, tell_json
from taskcast_server.cli.remote import Remote, with_remote
from taskcast_server.cli.targets import Target, choose, shown_url

if TYPE_CHECKING:
    from taskcast_server.cli.examination import Finding

_ADAPTERS = (("Broadcast:", "broadcast"), ("ShortTerm:", "shortTermStore"), ("LongTerm:", "longTermStore"))


def ping(
    node: NodeOption = None,
    url: UrlOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Ask whether the server is alive."""
    from taskcast_server.cli.http import ApiError, Unreachable

    target = choose(node, url)
    failure: str | None = None
    took_ms = 0
    try:
        _, took_ms = asyncio.run(_get(target, "/health"))
    except ApiError as error:
        failure = str(error)
    except Unreachable as error:
        failure = str(error).partition(": ")[2]
    _tell_ping(_shown(target), took_ms, failure, output)
    if failure is not None:
        raise click.exceptions.Exit(1)


@with_remote
def doctor(remote: Remote) -> None:
    """Ask the server how it and what it stands on are, and how streams come through; exits with 1 only if it cannot be
    reached.
    """
    from taskcast_server.cli.http import ApiError, Unreachable

    target = remote.target()
    try:
        health, findings = asyncio.run(_examine(target))
    except (ApiError, Unreachable) as error:
        remote.tell({"ok": False, "url": _shown(target), "error": str(error)}, f"Server:    FAIL  {error}")
        raise click.exceptions.Exit(1) from error
    if remote.is_json:
        found = [each.shown() for each in findings]
        tell_json({"url": _shown(target), "hasToken": target.token is not None, **health, "findings": found})
        return
    tell(f"Server:    OK  taskcast at {_shown(target)} (uptime: {health.get('uptime', 0)}s)")
    tell(f"Auth:      {_auth(health, target)}")
    adapters = health.get("adapters", {})
    for label, name in _ADAPTERS:
        tell(f"{label:<11}{_adapter(adapters.get(name))}")
    for finding in findings:
        tell(f"{finding.name + ':':<11}{finding.word}  {finding.text}")
    if remote.output is OutputFormat.VERBOSE:
        for name, value in health.items():
            if name not in ("auth", "adapters", "uptime"):
                tell(f"{name + ':':<11}{value}")


async def _examine(target: Target) -> tuple[dict[str, Any], list[Finding]]:
    """What the server says of itself, and what to make of it."""
    from taskcast_server.cli.examination import examine, time_first_byte
    from taskcast_server.cli.http import Api

    asked_at_ms = time.time() * 1000
    health, _ = await _get(target, "/health/detail?diagnose=1")
    findings = list(examine(health, asked_at_ms, time.time() * 1000))
    async with Api(target) as api:
        findings.append(await time_first_byte(api))
    return health, findings


async def _get(target: Target, path: str) -> tuple[Any, int]:
    """The reply, and how long it took in ms. Both routes are public: no token is sent to them."""
    from taskcast_server.cli.http import Api

    async with Api(Target(target.url)) as api:
        begun = time.monotonic()
        reply = await api.request("GET", path)
        return reply, round((time.monotonic() - begun) * 1000)


def _shown(target: Target) -> str:
    return shown_url(target.url)


def _tell_ping(url: str, took_ms: int, failure: str | None, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        result = {"ok": failure is None, "url": url, "ms": took_ms}
        tell_json(result if failure is None else {**result, "error": failure})
    elif failure is None:
        tell(f"OK — taskcast at {url} ({took_ms}ms)")
    else:
        tell(f"FAIL — cannot reach {url}: {failure}")


def _auth(health: dict[str, Any], target: Target) -> str:
    mode = health.get("auth", {}).get("mode", "unknown")
    if mode != "none" and target.token is None:
        return f"WARN  no token configured for this node (mode: {mode})"
    return f"OK  {mode}"


def _adapter(state: dict[str, Any] | None) -> str:
    if not state:
        return "SKIP  not configured"
    word = "OK" if state.get("status") == "ok" else "FAIL"
    return f"{word}  {state.get('provider', 'unknown')}"
