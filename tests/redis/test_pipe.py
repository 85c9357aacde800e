"""Commands over one link: in order, whoever gives up, and however the link ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from redis import exceptions as driver
from redis.asyncio import Redis

from taskcast_redis.link import unopened
from taskcast_redis.pipe import Pipe
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.redis.conftest import HOST, Proxied

pytestmark = pytest.mark.anyio

OpenPipe = Callable[..., Awaitable[Pipe]]


@pytest.fixture
async def open_pipe(anyio_backend: str) -> AsyncIterator[OpenPipe]:
    async with AsyncExitStack() as stack:

        async def opened(port: int, timeout_s: float = 60.0) -> Pipe:
            client = await stack.enter_async_context(Redis(host=HOST, port=port, protocol=2))
            pipe = Pipe(lambda: unopened(client), connect_timeout_s=30.0, timeout_s=timeout_s)
            stack.push_async_callback(pipe.close)
            return pipe

        yield opened


async def test_everybody_gets_their_own_replies(redis_server: RedisServer, open_pipe: OpenPipe) -> None:
    pipe = await open_pipe(redis_server.port)
    replies = await asyncio.gather(
        *(pipe.ask([("ECHO", str(n)), ("ECHO", "x" * n), ("GET", "nothing")]) for n in range(500))
    )
    assert replies == [[b"%d" % n, b"x" * n, None] for n in range(500)]


async def test_a_refusal_is_a_reply(redis_server: RedisServer, open_pipe: OpenPipe) -> None:
    pipe = await open_pipe(redis_server.port)
    refused, unknown, echo = await pipe.ask([("GET",), ("EVALSHA", "0" * 40, 0), ("ECHO", "well")])
    assert isinstance(refused, driver.ResponseError) and "wrong number of arguments" in str(refused)
    assert isinstance(unknown, driver.NoScriptError)
    assert echo == b"well"


async def test_who_gives_up_takes_nobody_elses_reply(redis_server: RedisServer, open_pipe: OpenPipe) -> None:
    pipe = await open_pipe(redis_server.port)
    asking = [asyncio.ensure_future(pipe.ask([("ECHO", str(n))])) for n in range(20)]
    await asyncio.sleep(0)
    for each in asking[::2]:
        each.cancel()
    assert [reply for [reply] in await asyncio.gather(*asking[1::2])] == [b"%d" % n for n in range(1, 20, 2)]
    assert await pipe.ask([("ECHO", "after")]) == [b"after"]


async def test_a_lost_link_tells_all_who_wait_and_is_opened_again(
    redis_server: RedisServer, open_pipe: OpenPipe, redis_proxy: Proxied
) -> None:
    proxy = await redis_proxy(redis_server.port)
    pipe = await open_pipe(proxy.port)
    await pipe.ask([("PING",)])
    waiting = [asyncio.ensure_future(pipe.ask([("BLPOP", "nothing", "0")])) for _ in range(3)]
    await eventually(lambda: proxy.commands["BLPOP"] == 3, within_s=20)
    proxy.cut()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, driver.ConnectionError) for each in outcomes)
    assert len({id(each) for each in outcomes}) == 3, "an error of one's own"
    assert await pipe.ask([("ECHO", "again")]) == [b"again"]


async def test_a_link_that_was_given_up_takes_nothing_more(redis_server: RedisServer, open_pipe: OpenPipe) -> None:
    pipe = await open_pipe(redis_server.port)
    await pipe.ask([("PING",)])
    pipe.drop()
    with pytest.raises(driver.ConnectionError):
        await pipe.ask([("PING",)])
    await asyncio.sleep(0)
    assert await pipe.ask([("ECHO", "again")]) == [b"again"]


async def test_no_reply_in_time(redis_server: RedisServer, open_pipe: OpenPipe, redis_proxy: Proxied) -> None:
    proxy = await redis_proxy(redis_server.port)
    pipe = await open_pipe(proxy.port, timeout_s=0.2)
    async with asyncio.timeout(20):
        while True:  # a busy machine may not be quick enough at once
            try:
                await pipe.ask([("PING",)])
                break
            except TimeoutError:
                continue
        proxy.blackhole()
        with pytest.raises(TimeoutError):
            await pipe.ask([("PING",)])
        await proxy.heal()
        while True:
            try:
                assert await pipe.ask([("ECHO", "again")]) == [b"again"]
                break
            except (TimeoutError, driver.RedisError):
                continue


async def test_a_master_no_longer(own_redis_server: RedisServer, open_pipe: OpenPipe) -> None:
    """A link to a server that has become a replica is given up: the next one may lead to the new master."""
    pipe = await open_pipe(own_redis_server.port)
    async with Redis(host=HOST, port=own_redis_server.port, protocol=2) as client:
        before = await pipe.ask([("CLIENT", "ID")])
        await client.replicaof(HOST, "1")
        [refused] = await pipe.ask([("SET", "k", "v")])
        assert str(refused).startswith("READONLY")
        await client.replicaof("NO", "ONE")

        async def is_another() -> bool:
            try:
                return await pipe.ask([("CLIENT", "ID")]) != before
            except driver.ConnectionError:
                return False

        await eventually(is_another, within_s=20)
