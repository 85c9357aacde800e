"""Which Redis is worked with, which is refused, and how the configuration opens it."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

from taskcast_core import MemoryShortTermStore, TaskEngine
from taskcast_core.assembly import open_engine
from taskcast_core.contracts.broadcast import Bell
from taskcast_core.errors import ConfigError, StoreUnavailable
from taskcast_core.testing.making import created
from taskcast_redis import RedisOptions, RedisShortTermStore, create_redis_adapters
from taskcast_redis.connection import RedisConnection
from taskcast_redis.topology import make_client
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import free_port
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.servers import running_redis

pytestmark = pytest.mark.anyio


async def test_an_evicting_redis_is_refused(prefix: str) -> None:
    with (
        running_redis(options=("--maxmemory-policy", "allkeys-lru")) as server,
        pytest.raises(ConfigError, match="allkeys-lru"),
    ):
        async with create_redis_adapters(server.url, prefix=prefix):
            pass


@pytest.mark.parametrize(("field", "complaint"), [("version", "layout 2"), ("bell_version", "bells of version 2")])
async def test_what_another_release_has_left_is_refused(
    redis_server: RedisServer, prefix: str, field: str, complaint: str
) -> None:
    async with create_redis_adapters(redis_server.url, prefix=prefix):
        pass
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await client.hset(f"{{{prefix}}}:layout", field, "2")
    with pytest.raises(ConfigError, match=complaint):
        async with create_redis_adapters(redis_server.url, prefix=prefix):
            pass


async def test_a_bell_that_cannot_be_read_says_look_for_yourself(redis_server: RedisServer, prefix: str) -> None:
    async with (
        create_redis_adapters(redis_server.url, prefix=prefix) as adapters,
        Redis.from_url(redis_server.url, protocol=2) as client,
    ):
        looks: list[None] = []
        async with adapters.broadcast.listen(lambda bell: None, lambda: looks.append(None)) as listener:
            await eventually(lambda: adapters.broadcast.health.is_healthy, within_s=20)
            await listener.follow(["a"])
            before = len(looks)
            channel = adapters.short_term_store.connection.keys.bell("a")
            for message in (b"2 of brass\n", b"1 of the right version, and cut"):
                assert await client.publish(channel, message) == 1
            await eventually(lambda: len(looks) == before + 2, within_s=20)


async def test_the_number_of_shards_stands(redis_server: RedisServer, prefix: str) -> None:
    async with create_redis_adapters(redis_server.url, prefix=prefix, shards=4) as adapters:
        task_id = (await created(adapters.short_term_store)).task.id
    with pytest.raises(ConfigError, match="4 shards"):
        async with create_redis_adapters(redis_server.url, prefix=prefix, shards=8):
            pass
    async with create_redis_adapters(redis_server.url, prefix=prefix) as adapters:
        assert await adapters.short_term_store.get(task_id) is not None


async def test_nobody_there(prefix: str) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        async with create_redis_adapters(
            f"redis://127.0.0.1:{free_port()}", prefix=prefix, start_timeout_ms=1_000, retry_first_ms=50
        ):
            pass
    assert refused.value.kind == "connection_refused"


async def test_a_wrong_password_is_not_tried_again(prefix: str) -> None:
    with running_redis() as server:
        async with Redis.from_url(server.url, protocol=2) as client:
            await client.config_set("requirepass", "right")
        url = server.url.replace("redis://", "redis://:wrong@")
        with pytest.raises(StoreUnavailable) as refused:
            async with create_redis_adapters(url, prefix=prefix):
                pass
        assert refused.value.kind == "authentication"
        async with create_redis_adapters(server.url.replace("redis://", "redis://:right@"), prefix=prefix):
            pass


async def test_keys_of_somebody_else_are_not_waited_for(redis_server: RedisServer, prefix: str) -> None:
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await client.set(f"{{{prefix}}}:layout", "a text")
    with pytest.raises(StoreUnavailable, match="unavailable") as refused:
        async with create_redis_adapters(redis_server.url, prefix=prefix, start_timeout_ms=600_000):
            pass
    assert "WRONGTYPE" in str(refused.value.__cause__)


async def test_an_acl_user_needs_its_own_keys_and_channels_only(own_redis_server: RedisServer, prefix: str) -> None:
    async with Redis.from_url(own_redis_server.url, protocol=2) as client:
        rules = f"on >secret ~{{{prefix}}}* ~{{{prefix}:* &{{{prefix}:* +@all -@dangerous +info".split()
        await client.execute_command("ACL", "SETUSER", "node", *rules)  # type: ignore[no-untyped-call]
    async with create_redis_adapters(own_redis_server.url, prefix=prefix, username="node", password="secret") as both:
        assert (await created(both.short_term_store)).rev == 1


async def test_a_unix_socket(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with running_redis(options=("--unixsocket", str(path))):
        async with create_redis_adapters(f"unix://{path}", prefix=prefix) as adapters:
            assert (await created(adapters.short_term_store)).rev == 1


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_callers_own_client_stays_open(redis_server: RedisServer, prefix: str, protocol: int) -> None:
    async with Redis.from_url(redis_server.url, protocol=protocol) as client:
        async with create_redis_adapters(client=client, prefix=prefix) as adapters:
            stored = await created(adapters.short_term_store)
            assert await adapters.short_term_store.get(stored.task.id) == stored
            await eventually(lambda: adapters.broadcast.health.is_healthy, within_s=20)
        assert await client.ping()


async def test_engines_that_share_a_connection_ring_for_themselves(redis_server: RedisServer, prefix: str) -> None:
    """One keeps its tasks in Redis, whose commits ring; those of the other do not, so its bells are sent."""
    async with (
        create_redis_adapters(redis_server.url, prefix=prefix) as far,
        create_redis_adapters(redis_server.url, prefix=prefix) as near,
        MemoryShortTermStore() as memory,
        TaskEngine(broadcast=near.broadcast, short_term_store=memory) as other,
        TaskEngine(broadcast=near.broadcast, short_term_store=near.short_term_store) as engine,
    ):
        heard: list[tuple[str, int]] = []

        def hear(bell: Bell) -> None:
            if bell.entries:
                heard.append((bell.task_id, bell.last_index))

        mine, theirs = [await one.create_task({"type": "x"}) for one in (engine, other)]
        async with far.broadcast.listen(hear, lambda: None) as listener:
            await eventually(lambda: far.broadcast.health.is_healthy, within_s=20)
            await listener.follow([mine.id, theirs.id])
            for one, task in ((engine, mine), (other, theirs), (engine, mine), (other, theirs)):
                await one.publish_event(task.id, {"type": "t", "level": "info", "data": 1})
            await eventually(lambda: len(heard) >= 4, within_s=20)
        assert sorted(heard) == sorted([(mine.id, 0), (theirs.id, 0), (mine.id, 1), (theirs.id, 1)])


async def test_a_client_that_decodes_is_refused(redis_server: RedisServer, prefix: str) -> None:
    async with Redis.from_url(redis_server.url, protocol=2, decode_responses=True) as client:
        with pytest.raises(ConfigError, match="decode_responses"):
            async with create_redis_adapters(client=client, prefix=prefix):
                pass


@pytest.mark.parametrize(
    "url", ["http://x", "redis+sentinel://host:26379", "redis+cluster://host:x", "redis+sentinel://host/service/x"]
)
def test_urls_that_say_nothing(url: str) -> None:
    with pytest.raises(ConfigError):
        make_client(RedisOptions(url=url))


async def test_the_configuration_opens_both_over_one_connection(
    redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "taskcast.config.yaml"
    redis = f"{{provider: redis, url: '{redis_server.url}', prefix: {prefix}}}"
    file.write_text(f"adapters:\n  broadcast: {redis}\n  shortTermStore: {redis}\n")
    async with open_engine(file) as engine:
        assert isinstance(engine.store, RedisShortTermStore)
        assert engine.store.connection.rings
        assert engine.store.is_shared and engine.broadcast.is_shared
        assert "Redis" in engine.store.durability
        for check in engine.store.dependency_checks().values():
            await check()
        task = await engine.create_task({"type": "x"})
        assert await engine.get_task(task.id) == task


async def test_a_connection_is_closed_with_its_last_user(redis_server: RedisServer, prefix: str) -> None:
    connection = RedisConnection(RedisOptions(url=redis_server.url, prefix=prefix))
    async with RedisShortTermStore(connection) as one:
        async with RedisShortTermStore(connection):
            pass
        assert (await created(one)).rev == 1


@pytest.mark.parametrize("prefix", ["", "a{b", "}"])
async def test_prefixes_that_would_break_the_layout(redis_server: RedisServer, prefix: str) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        async with RedisShortTermStore(RedisConnection(RedisOptions(url=redis_server.url, prefix=prefix))):
            pass


async def test_one_variable_is_enough(
    redis_server: RedisServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKCAST_REDIS_URL", redis_server.url)
    monkeypatch.setenv("TASKCAST_REDIS_PREFIX", prefix)
    async with open_engine() as engine:
        assert isinstance(engine.store, RedisShortTermStore)
        assert engine.store.connection.rings
        assert engine.store.connection.keys.prefix == prefix


async def test_a_configuration_says_where_redis_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKCAST_REDIS_URL", raising=False)
    file = tmp_path / "taskcast.yaml"
    file.write_text("adapters:\n  shortTermStore:\n    provider: redis\n")
    with pytest.raises(ConfigError, match=r"adapters\.shortTermStore\.url \(or TASKCAST_REDIS_URL\) is required"):
        async with open_engine(file):
            pass
