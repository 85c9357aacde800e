"""What ``taskcast doctor`` makes of what a server says of itself, and of how a stream comes through. Mostly pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from taskcast_core.values import frozen
from taskcast_server.cli.http import Api, ApiError, Unreachable

Word = Literal["OK", "WARN", "FAIL", "SKIP"]

MOST_SKEW_MS = 1000
"""Clocks that differ by more make tokens expire early and cursors by time miss events."""
FIRST_BYTE_S = 2.0
"""A stream says hello at once; whoever keeps that back keeps events back, too."""
PATIENCE_S = 5.0
FULL = 0.8
_OLDEST_MS = 60_000


@frozen
class Finding:
    """One line of the report."""

    name: str
    word: Word
    text: str

    def shown(self) -> dict[str, str]:
        """For ``--output json``."""
        return {"name": self.name, "state": self.word, "text": self.text}


def examine(health: Mapping[str, Any], asked_at_ms: float, answered_at_ms: float) -> Iterator[Finding]:
    """Everything that can be told from ``/health/detail?diagnose=1``; the times are this machine's."""
    yield _clock(health.get("clock"), asked_at_ms, answered_at_ms)
    yield from _dependencies(health)
    found = health.get("diagnosis", {})
    for facts in found.values():
        if facts.get("kind") == "redis":
            yield _redis(facts)
        elif facts.get("kind") == "postgres":
            yield _migrations(facts)
            yield _pool(facts["pool"])
    yield from _followers(health.get("followers", {}))


def _clock(clock: Mapping[str, int] | None, asked_at_ms: float, answered_at_ms: float) -> Finding:
    if clock is None:
        return Finding("Clock", "SKIP", "the server does not tell its time")
    server, store = clock["serverMs"], clock["storeMs"]
    # The server looked at its clock at some time in between; only what is outside of that is skew.
    here = min(max(server, asked_at_ms), answered_at_ms)
    skew, store_skew = round(server - here), store - server
    text = f"server {skew:+d} ms to this machine, store {store_skew:+d} ms to the server"
    return Finding("Clock", "WARN" if max(abs(skew), abs(store_skew)) > MOST_SKEW_MS else "OK", text)


def _dependencies(health: Mapping[str, Any]) -> Iterator[Finding]:
    for name, state in health.get("dependencies", {}).items():
        if state.get("state") != "healthy":
            kind = state.get("lastErrorKind", "unavailable")
            text = f"{name} {state.get('state')} ({kind}), since {state['lastTransitionAt']}"
            yield Finding("Needs", "FAIL", text)


def _redis(facts: Mapping[str, Any]) -> Finding:
    trouble = []
    if facts["evictionPolicy"] != "noeviction":
        trouble.append(f"maxmemory-policy {facts['evictionPolicy']} loses tasks silently; set it to noeviction")
    if facts["lastWriteFailed"]:
        trouble.append("its last write to disk failed")
    if not facts["appendOnly"]:
        kept = "snapshots only" if facts["snapshots"] else "nothing on disk"
        trouble.append(f"{kept}: a crash of Redis takes acknowledged events; set appendonly yes")
    if facts["maxBytes"] and facts["usedBytes"] > FULL * facts["maxBytes"]:
        trouble.append(f"memory is {facts['usedBytes'] / facts['maxBytes']:.0%} full")
    if trouble:
        return Finding("Redis", "WARN", "; ".join(trouble))
    return Finding("Redis", "OK", f"{facts['version']}, append-only file, noeviction")


def _migrations(facts: Mapping[str, Any]) -> Finding:
    found = facts["migrations"]
    if found["problem"]:
        return Finding("Postgres", "FAIL", found["problem"])
    if found["pending"]:
        return Finding("Postgres", "WARN", f"migrations pending: {', '.join(found['pending'])}; run `taskcast migrate`")
    if facts["fsync"] != "on":
        return Finding("Postgres", "WARN", "fsync is off: a power cut takes the archive")
    return Finding("Postgres", "OK", f"{facts['version']}, {found['applied']} migrations applied")


def _pool(pool: Mapping[str, int]) -> Finding:
    text = f"{pool['most']} connections per process; the server has {pool['ofServer']}, {pool['usedOfServer']} in use"
    others = max(0, pool["usedOfServer"] - pool["most"])
    is_tight = pool["most"] + others > FULL * pool["ofServer"]
    return Finding("Pool", "WARN" if is_tight else "OK", text)


def _followers(followers: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    for kind, found in followers.items():
        oldest, letters = found.get("oldestMs", 0), found.get("deadLetters", 0)
        text = f"{kind}: {found.get('events', 0)} events behind, the oldest for {oldest / 1000:.0f} s"
        if letters:
            text += f"; {letters} dead letters, see /admin/dead-letters"
        yield Finding("Follower", "WARN" if letters or oldest > _OLDEST_MS else "OK", text)


async def time_first_byte(api: Api) -> Finding:
    """Open a stream the way that readers do, and see how long its greeting takes: proxies that buffer keep it back."""
    began = time.monotonic()
    try:
        took_s = await api.first_byte_s("/events", PATIENCE_S)
    except ApiError as error:
        if error.status in (401, 403):
            return Finding("Stream", "SKIP", "opening a stream needs a token with the scope event:subscribe")
        return Finding("Stream", "FAIL", str(error))
    except Unreachable as error:
        if time.monotonic() - began < PATIENCE_S:
            return Finding("Stream", "FAIL", str(error))
        took_s = PATIENCE_S
    if took_s < FIRST_BYTE_S:
        return Finding("Stream", "OK", f"first byte after {took_s * 1000:.0f} ms")
    late = f"no byte within {PATIENCE_S:g} s" if took_s >= PATIENCE_S else f"first byte after {took_s:.1f} s"
    return Finding("Stream", "WARN", f"{late}: a proxy on the way buffers; switch that off for event streams")
