"""A Cluster: bells that stay with their slot, slots that move, nodes that hang or fail over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis
from redis.asyncio import RedisCluster as ClusterClient

from taskcast_core.engine import TaskEngine
from taskcast_core.errors import ConfigError, StoreUnavailable
from taskcast_redis import RedisOptions, create_redis_adapters
from taskcast_redis.connection import RedisConnection
from taskcast_redis.keys import layout_key
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import HOST
from tests.fixtures.redis_server import RedisServer
from tests.redis.conftest import FAST, Node, Reader
from tests.redis.groups import RedisCluster, ask, node_id, running_cluster
from tests.redis.test_faults import assert_whole, event, finish, publish_through, reading, started

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def open_on(stack: AsyncExitStack, url: str, prefix: str, **options: int) -> Node:
    adapters = await stack.enter_async_context(
        create_redis_adapters(url, options=RedisOptions(prefix=prefix, **(FAST | options)))
    )
    engine = TaskEngine(broadcast=adapters.broadcast, short_term_store=adapters.short_term_store)
    return Node(await stack.enter_async_context(engine), adapters)


@pytest.fixture
async def nodes(stack: AsyncExitStack, cluster: RedisCluster, prefix: str) -> Sequence[Node]:
    return [await open_on(stack, cluster.url, prefix) for _ in range(2)]


def slot_of(node: Node, task_id: str) -> int:
    connection = node.adapters.short_term_store.connection
    client = connection.client
    assert isinstance(client, ClusterClient)
    return client.keyslot(connection.keys.of(task_id))


def is_whole(server: RedisServer) -> bool:
    """Whether a node takes part in a Cluster that serves every slot."""
    return b"cluster_state:ok" in ask(server.port, "CLUSTER", "INFO")


async def channels(server: RedisServer, kind: str, prefix: str) -> set[bytes]:
    """Of tasks, that somebody hears on this node."""
    async with Redis(host=HOST, port=server.port, protocol=2) as client:
        return set(await client.execute_command("PUBSUB", kind, f"{{{prefix}:*:b:0*"))  # type: ignore[no-untyped-call]


async def test_bells_stay_with_the_nodes_of_their_slot(
    cluster: RedisCluster, nodes: Sequence[Node], prefix: str
) -> None:
    one, two = nodes
    tasks = [await started(one) for _ in range(12)]
    async with asyncio.TaskGroup() as group:
        readers = [Reader(two, task_id) for task_id in tasks]
        for reader in readers:
            group.create_task(reader.run())
        await eventually(lambda: two.engine.hub.followed == 12, within_s=20)
        connection = one.adapters.short_term_store.connection
        for server in cluster.nodes:
            mine = {connection.keys.bell(t) for t in tasks if cluster.serving(slot_of(one, t)) is server}
            assert await channels(server, "SHARDCHANNELS", prefix) == mine
            assert await channels(server, "CHANNELS", prefix) == set()
        for n in range(20):
            await asyncio.gather(*(nodes[n % 2].engine.publish_event(t, event(n)) for t in tasks))
        await asyncio.gather(*(finish(one, t) for t in tasks))
    assert_whole(readers, 21)
    assert two.adapters.broadcast.heard >= 12 * 11, "the other node's bells were heard"


async def test_plain_bells_where_the_first_node_rang_them(
    stack: AsyncExitStack, cluster: RedisCluster, prefix: str
) -> None:
    """As where the servers were older when the layout was made."""
    async with ClusterClient.from_url(f"redis://{HOST}:{cluster.nodes[0].port}", protocol=2) as client:
        await client.hset(f"{{{prefix}}}:layout", mapping={"version": 1, "shards": 16, "bells": "plain"})
        one, two = [await open_on(stack, cluster.url, prefix) for _ in range(2)]
        task_id = await started(one)
        async with reading(two, task_id) as readers:
            before = two.adapters.broadcast.heard
            for n in range(20):
                await one.engine.publish_event(task_id, event(n))
            await eventually(lambda: two.adapters.broadcast.heard >= before + 20, within_s=20)
            assert [await channels(server, "SHARDCHANNELS", prefix) for server in cluster.nodes] == [set()] * 3
            await finish(one, task_id)
        assert_whole(readers, 21)
        await client.hset(f"{{{prefix}}}:layout", "bells", "of brass")
    with pytest.raises(ConfigError, match="of brass"):
        await open_on(stack, cluster.url, prefix)


async def test_a_cluster_that_is_not_whole_yet_is_waited_for(cluster: RedisCluster, prefix: str) -> None:
    """A node was away and is back, but the others do not trust it yet: their slots are not served meanwhile."""
    client = ClusterClient.from_url(f"redis://{HOST}:{cluster.nodes[0].port}")
    server = cluster.serving(client.keyslot(layout_key(prefix)))
    other = next(node for node in cluster.nodes if node is not server)
    other.pause()
    try:
        await eventually(lambda: not is_whole(server), within_s=30)
    finally:
        other.resume()
    async with RedisConnection(RedisOptions(url=cluster.url, prefix=prefix, **FAST)) as connection:
        assert connection.health.is_healthy
    await eventually(lambda: all(is_whole(node) for node in cluster.nodes), within_s=30)


async def test_killed_pub_sub_connections(cluster: RedisCluster, nodes: Sequence[Node]) -> None:
    one, two = nodes
    task_id = await started(one)
    async with reading(two, task_id) as readers:
        for n in range(60):
            await one.engine.publish_event(task_id, event(n))
            if n % 20 == 10:
                for server in cluster.nodes:
                    ask(server.port, "CLIENT", "KILL", "TYPE", "pubsub")
        await finish(one, task_id)
    assert_whole(readers, 61)


async def test_a_node_that_hangs(cluster: RedisCluster, nodes: Sequence[Node]) -> None:
    one, two = nodes
    task_id = await started(one)
    async with reading(two, task_id) as readers:
        server = cluster.serving(slot_of(one, task_id))
        server.pause()
        try:
            await eventually(lambda: not one.adapters.short_term_store.connection.health.is_healthy, within_s=20)
            await eventually(lambda: not two.adapters.broadcast.health.is_healthy, within_s=20)
            with pytest.raises(StoreUnavailable):  # whether it was done is not known
                await one.engine.publish_event(task_id, event(0), idempotency_key="n0")
        finally:
            server.resume()
        for n in range(10):
            await publish_through(one, task_id, n)
        await eventually(lambda: two.adapters.broadcast.health.is_healthy, within_s=30)
        await finish(one, task_id)
    assert_whole(readers, 11)
    await eventually(lambda: all(is_whole(node) for node in cluster.nodes), within_s=30)


async def move_keys(slot: int, source: RedisServer, target: RedisServer) -> None:
    async with Redis(host=HOST, port=source.port, protocol=2) as client:
        while keys := await client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):  # type: ignore[no-untyped-call]
            await client.migrate(HOST, target.port, keys, 0, 5_000)  # type: ignore[no-untyped-call]


async def test_a_slot_that_moves(cluster: RedisCluster, nodes: Sequence[Node]) -> None:
    """While it is on its way, nobody is told that a task does not exist; then everybody goes on."""
    one, two = nodes
    task_id = await started(one)
    slot = slot_of(one, task_id)
    source = cluster.serving(slot)
    target = next(server for server in cluster.nodes if server is not source)
    async with reading(two, task_id) as readers:
        for n in range(10):
            await one.engine.publish_event(task_id, event(n))
        ask(target.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        ask(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
        for node in nodes:
            with pytest.raises(StoreUnavailable):
                await node.engine.get_task(task_id)
        await move_keys(slot, source, target)
        with pytest.raises(StoreUnavailable):
            await one.engine.publish_event(task_id, event(10))
        for server in (target, source):
            ask(server.port, "CLUSTER", "SETSLOT", slot, "NODE", node_id(target))
        for n in range(10, 20):
            await publish_through(one, task_id, n)
        await eventually(lambda: all(len(reader.indexes) == 21 for reader in readers), within_s=20)
        await eventually(lambda: two.adapters.broadcast.health.is_healthy, within_s=20)
        bell = one.adapters.short_term_store.connection.keys.bell(task_id)

        async def is_heard_there() -> bool:
            async with Redis(host=HOST, port=target.port, protocol=2) as client:
                return bell in await client.execute_command("PUBSUB", "SHARDCHANNELS")  # type: ignore[no-untyped-call]

        await eventually(is_heard_there, within_s=20)
        await finish(one, task_id)
    assert_whole(readers, 21)


async def take_over(replica: RedisServer) -> None:
    """Make a replica the master; it is asked again where the servers, on a busy machine, have given up after 5 s."""
    for last in (False, False, True):
        ask(replica.port, "CLUSTER", "FAILOVER")
        try:
            await eventually(lambda: b"role:master" in ask(replica.port, "INFO", "replication"), within_s=15)
            return
        except AssertionError:
            if last:
                raise


async def test_a_replica_is_waited_for_and_takes_over(stack: AsyncExitStack, prefix: str) -> None:
    with running_cluster(1, replicated=True) as cluster:
        master, replica = cluster.nodes[0], cluster.replicas[0]
        one, two = [await open_on(stack, cluster.url, prefix, wait_replicas=1) for _ in range(2)]
        assert one.adapters.short_term_store.durability.endswith("1 replicas have it")
        task_id = await started(one)
        async with reading(two, task_id) as readers:
            await one.engine.publish_event(task_id, event(0))
            replica.pause()
            with pytest.raises(StoreUnavailable) as refused:
                await one.engine.publish_event(task_id, event(1), idempotency_key="n1")
            assert refused.value.kind == "replicas"
            replica.resume()
            for n in range(1, 10):
                await publish_through(one, task_id, n)
            await take_over(replica)
            await eventually(lambda: b"role:slave" in ask(master.port, "INFO", "replication"), within_s=30)
            for n in range(10, 20):
                await publish_through(one, task_id, n)
            await finish(two, task_id)
        assert_whole(readers, 21)
        await stack.aclose()
