"""What `taskcast doctor` finds: from a server's own words, and by opening a stream."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskcast_core.errors import StoreUnavailable
from taskcast_server.app import create_taskcast_app
from taskcast_server.cli.doctor import _examine
from taskcast_server.cli.examination import Finding, examine, time_first_byte
from taskcast_server.cli.http import Api
from taskcast_server.cli.targets import Target
from taskcast_server.options import LimitOptions
from tests.server.app_server import memory_engine, serving

pytestmark = pytest.mark.anyio

REDIS: dict[str, Any] = {
    "kind": "redis", "version": "7.4.0", "nodes": 1, "evictionPolicy": "noeviction", "appendOnly": True,
    "snapshots": True, "lastWriteFailed": False, "usedBytes": 1, "maxBytes": 0,
}  # fmt: skip
POSTGRES: dict[str, Any] = {
    "kind": "postgres", "version": "17.2", "migrations": {"applied": 3, "pending": [], "problem": None},
    "pool": {"most": 10, "ofServer": 100, "usedOfServer": 12}, "synchronousCommit": "on", "fsync": "on",
}  # fmt: skip


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def found(health: dict[str, Any], name: str, at_ms: float = 1000.0) -> Finding:
    return next(each for each in examine(health, at_ms, at_ms + 10) if each.name == name)


def of_store(facts: dict[str, Any], name: str) -> Finding:
    return found({"diagnosis": {"shortTermStore": facts}}, name)


# ── Words about facts ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("server", "store", "word", "text"),
    [
        (1005, 1005, "OK", "server +0 ms to this machine, store +0 ms"),
        (6010, 6010, "WARN", "server +5000 ms"),
        (500, 500, "OK", "server -500 ms"),
        (1005, 9005, "WARN", "store +8000 ms to the server"),
    ],
)
def test_clocks_that_differ(server: int, store: int, word: str, text: str) -> None:
    finding = found({"clock": {"serverMs": server, "storeMs": store}}, "Clock")
    assert (finding.word, text in finding.text) == (word, True), finding


def test_an_older_server_does_not_tell_its_time() -> None:
    assert found({}, "Clock").word == "SKIP"


@pytest.mark.parametrize(
    ("facts", "word", "text"),
    [
        ({}, "OK", "7.4.0, append-only file, noeviction"),
        ({"evictionPolicy": "allkeys-lru"}, "WARN", "allkeys-lru loses tasks silently"),
        ({"appendOnly": False}, "WARN", "snapshots only"),
        ({"appendOnly": False, "snapshots": False}, "WARN", "nothing on disk"),
        ({"lastWriteFailed": True}, "WARN", "last write to disk failed"),
        ({"usedBytes": 95, "maxBytes": 100}, "WARN", "memory is 95% full"),
    ],
)
def test_redis(facts: dict[str, Any], word: str, text: str) -> None:
    finding = of_store(REDIS | facts, "Redis")
    assert (finding.word, text in finding.text) == (word, True), finding


@pytest.mark.parametrize(
    ("facts", "name", "word", "text"),
    [
        ({}, "Postgres", "OK", "17.2, 3 migrations applied"),
        ({"migrations": {"applied": 2, "pending": ["0003_x"], "problem": None}}, "Postgres", "WARN", "0003_x"),
        ({"migrations": {"applied": 2, "pending": [], "problem": "changed"}}, "Postgres", "FAIL", "changed"),
        ({"fsync": "off"}, "Postgres", "WARN", "power cut"),
        ({}, "Pool", "OK", "10 connections per process; the server has 100, 12 in use"),
        ({"pool": {"most": 50, "ofServer": 100, "usedOfServer": 95}}, "Pool", "WARN", "50 connections"),
    ],
)
def test_postgres(facts: dict[str, Any], name: str, word: str, text: str) -> None:
    finding = of_store(POSTGRES | facts, name)
    assert (finding.word, text in finding.text) == (word, True), finding


def test_followers_that_lag_and_dead_letters() -> None:
    on_time = {"lanes": 1, "events": 3, "oldestMs": 20}
    assert found({"followers": {"archive": on_time}}, "Follower").word == "OK"
    assert found({"followers": {"archive": on_time | {"oldestMs": 90_000}}}, "Follower").word == "WARN"
    letters = found({"followers": {"webhook": on_time | {"deadLetters": 2}}}, "Follower")
    assert letters.word == "WARN" and "2 dead letters" in letters.text


# ── A server ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_server_in_good_health() -> None:
    async with memory_engine() as engine, serving(create_taskcast_app(engine)) as url:
        health, findings = await _examine(Target(url))
    assert health["ok"] is True
    assert [(each.name, each.word) for each in findings] == [("Clock", "OK"), ("Stream", "OK")]


async def test_a_dependency_that_is_away_and_a_store_that_can_say_more() -> None:
    async with memory_engine() as engine:

        async def away() -> None:
            raise StoreUnavailable("redisCommand", "timeout")

        async def diagnose() -> dict[str, Any]:
            return REDIS | {"appendOnly": False}

        engine.store.diagnose = diagnose  # type: ignore[attr-defined]
        async with serving(create_taskcast_app(engine, checks={"redisCommand": away})) as url:
            _, findings = await _examine(Target(url))
    words = {each.name: each.word for each in findings}
    assert (words["Needs"], words["Redis"]) == ("FAIL", "WARN")


async def test_a_stream_needs_a_token_where_callers_are_known() -> None:
    async def who(connection: Any) -> dict[str, Any] | None:
        return {"scope": ["event:subscribe"]} if connection.headers.get("authorization") else None

    async with memory_engine() as engine, serving(create_taskcast_app(engine, who)) as url:
        for token, word in ((None, "SKIP"), ("any", "OK")):
            async with Api(Target(url, token)) as api:
                assert (await time_first_byte(api)).word == word


async def test_a_stream_that_is_refused_fails() -> None:
    async with memory_engine() as engine:
        app = create_taskcast_app(engine, limits=LimitOptions(max_open_streams=1))
        async with serving(app) as url, Api(Target(url)) as api, api.frames("/events", {}):
            finding = await time_first_byte(api)
    assert finding.word == "FAIL" and "streams" in finding.text


@asynccontextmanager
async def buffering(upstream: str) -> AsyncIterator[str]:
    """A proxy that passes on no reply before it is complete: what buffering proxies do to streams."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = upstream.removeprefix("http://").split(":")
        there_reader, there = await asyncio.open_connection(host, int(port))
        there.write(await reader.readuntil(b"\r\n\r\n"))
        held = b""
        try:
            while not reader.at_eof():
                waiting = {asyncio.ensure_future(there_reader.read(4096)), asyncio.ensure_future(reader.read(1))}
                done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in rest:
                    each.cancel()
                held += b"".join(each.result() for each in done)
                if b"event-stream" not in held:
                    writer.write(held)
                    held = b""
        finally:
            writer.close()
            there.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_proxy_that_buffers_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskcast_server.cli.examination.PATIENCE_S", 0.5)
    monkeypatch.setattr("taskcast_server.cli.examination.FIRST_BYTE_S", 0.4)
    async with memory_engine() as engine, serving(create_taskcast_app(engine)) as url, buffering(url) as proxied:
        began = time.monotonic()
        async with Api(Target(proxied)) as api:
            finding = await time_first_byte(api)
        assert time.monotonic() - began < 20
    assert finding.word == "WARN" and "buffers" in finding.text
