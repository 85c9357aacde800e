"""The server as a process: how it stops, what survives a kill, what is delivered again."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskcast_server import serve as serving_module
from tests.fixtures.eventually import eventually
from tests.server.app_server import client, following
from tests.server.http_receiver import Got, Receiver, Reply
from tests.server.programs import TASKCAST, Program, taskcast

pytestmark = pytest.mark.anyio

SQLITE = """
adapters: {broadcast: sqlite, shortTermStore: {provider: sqlite, path: ./taskcast.db}}
webhook:
  allowPrivateNetworks: true
  defaultRetry: {retries: 20, backoff: fixed, initialDelayMs: 100, timeoutMs: 3000}
"""


def config_file(directory: Path, text: str = SQLITE) -> str:
    path = directory / "taskcast.config.yaml"
    path.write_text(text)
    return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def stopped(program: Program) -> int:
    return await asyncio.to_thread(program.stop)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_sends_readers_away_finishes_what_runs_and_ends_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    with taskcast("start", "-c", config_file(tmp_path), cwd=tmp_path) as program:
        async with client(program.url) as http:
            await http.post("/tasks", json={"id": "t"})
            sent = asyncio.Event()

            async def lines() -> Any:
                yield b'{"type":"x","level":"info","data":1}\n'
                sent.set()
                await asyncio.sleep(0.5)
                yield b'{"type":"x","level":"info","data":2}\n'

            headers = {"content-type": "application/x-ndjson"}
            publishing = asyncio.create_task(http.post("/tasks/t/events", content=lines(), headers=headers))
            async with following(http, "/tasks/t/events") as frames:
                await sent.wait()
                first = await frames.next()
                assert first is not None
                assert first["json"]["data"] == 1
                program.process.send_signal(number)
                while await frames.next() is not None:
                    pass
                assert frames.retry is not None
            assert (await publishing).json() == {"count": 2, "firstIndex": 0, "lastIndex": 1}
            with pytest.raises(httpx.ConnectError):
                async with client(program.url) as late:
                    await late.get("/health")
        assert await asyncio.to_thread(program.process.wait, 20) == 0
        assert "Traceback" not in program.output


async def test_no_acknowledged_event_is_lost_by_a_kill_and_readers_resume_exactly(tmp_path: Path) -> None:
    port = free_port()
    config = config_file(tmp_path)
    acknowledged: list[str] = []
    seen: list[dict[str, Any]] = []

    async def publish(http: httpx.AsyncClient) -> None:
        for number in range(10_000):
            try:
                reply = await http.post("/tasks/t/events", json={"type": "x", "level": "info", "data": number})
            except httpx.TransportError:
                return
            acknowledged.append(reply.json()["id"])

    async def read(http: httpx.AsyncClient) -> None:
        cursor = {"since.id": seen[-1]["eventId"]} if seen else {}
        try:
            async with following(http, "/tasks/t/events", params=cursor) as frames:
                while (frame := await frames.next()) is not None:
                    if frame["event"] == "taskcast.event":
                        seen.append(frame["json"])
        except httpx.TransportError:
            return

    with taskcast("start", "-c", config, cwd=tmp_path, port=port) as program:
        async with client(program.url) as http:
            await http.post("/tasks", json={"id": "t"})
            working = asyncio.gather(publish(http), read(http))
            await eventually(lambda: len(acknowledged) > 100 and len(seen) > 50, within_s=20)
            program.kill()
            await working
    before = len(seen)
    with taskcast("start", "-c", config, cwd=tmp_path, port=port) as program:
        async with client(program.url) as http:
            stored = (await http.get("/tasks/t/events/history")).json()
            assert [event["id"] for event in stored][: len(acknowledged)] == acknowledged
            await http.patch("/tasks/t/status", json={"status": "cancelled"})
            await read(http)
    assert len(seen) > before
    assert [event["rawIndex"] for event in seen] == list(range(len(stored) + 1))
    assert [event["eventId"] for event in seen[:-1]] == [event["id"] for event in stored]


async def test_a_delivery_that_was_not_noted_before_a_kill_is_made_again_in_order(tmp_path: Path) -> None:
    answering = asyncio.Event()
    answering.set()

    async def answer(got: Got) -> Reply:
        if json.loads(got.body)["index"] == 2:
            await answering.wait()
        return Reply()

    async with Receiver(answer) as receiver:
        config = config_file(tmp_path)
        with taskcast("start", "-c", config, cwd=tmp_path) as program:
            answering.clear()
            async with client(program.url) as http:
                await http.post("/tasks", json={"id": "t", "webhooks": [{"url": receiver.url()}]})
                events = [{"type": "x", "level": "info", "data": number} for number in range(5)]
                await http.post("/tasks/t/events", json=events)
                await eventually(lambda: 2 in indexes(receiver))
            program.kill()
        answering.set()
        first_life = len(receiver.got)
        with taskcast("start", "-c", config, cwd=tmp_path):
            # The lease of the dead process has to run out first.
            await eventually(lambda: indexes(receiver)[-1:] == [4] and len(receiver.got) > first_life, within_s=45)
    again = indexes(receiver)[first_life:]
    assert again == sorted(again)  # one that got no answer in time comes twice
    assert set(again) == set(range(again[0], 5))
    assert again[0] <= 2, "what was delivered but not noted comes again"
    assert set(indexes(receiver)) == set(range(5))


def indexes(receiver: Receiver) -> list[int]:
    return [json.loads(got.body)["index"] for got in receiver.got]


async def test_a_signal_is_heard_while_a_store_is_still_waited_for(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        command = [str(TASKCAST), "start", "--storage", "redis", "-p", "0"]
        program = Program(command, tmp_path, {**os.environ, "TASKCAST_REDIS_URL": url})
        try:
            silent.settimeout(60)
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                assert await stopped(program) == 0
        finally:
            program.process.kill()
    assert "Traceback" not in program.output
    assert "unavailable" not in program.output, "it has not waited until it gave up"


async def test_an_address_in_use_is_told_before_any_store_is_opened(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            serving_module._listen("127.0.0.1", taken.getsockname()[1])


def test_a_url_for_people() -> None:
    assert serving_module._url("0.0.0.0", 80) == "http://localhost:80"
    assert serving_module._url("::1", 80) == "http://localhost:80"
    assert serving_module._url("10.0.0.7", 80) == "http://10.0.0.7:80"
    assert serving_module._url("fe80::1", 80) == "http://[fe80::1]:80"
