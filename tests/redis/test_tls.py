"""rediss://: whom we trust, who we say we are, and that bells travel there, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from attrs import evolve, frozen

from taskcast_core.engine import TaskEngine
from taskcast_core.errors import StoreUnavailable
from taskcast_redis import RedisOptions, create_redis_adapters
from tests.fixtures.eventually import eventually_sync
from tests.fixtures.processes import HOST, free_port
from tests.fixtures.servers import running_redis
from tests.redis.certificates import Authority
from tests.redis.conftest import Node
from tests.redis.groups import SLOTS, ask
from tests.redis.test_faults import assert_whole, event, finish, reading, started

pytestmark = pytest.mark.anyio


@frozen
class Guarded:
    """A server that speaks TLS only to those whose certificate it trusts, and a Cluster of one that does, too."""

    options: RedisOptions
    cluster_url: str
    stranger: Authority


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory, "authority")
    server, client = authority.sign("server"), authority.sign("client")
    common = ["--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "yes"]
    common += ["--tls-cert-file", str(server.certificate), "--tls-key-file", str(server.key)]
    ports = [free_port(), free_port()]
    of_cluster = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--tls-cluster", "yes"]
    try:
        with (
            running_redis(options=["--tls-port", str(ports[0]), *common]),
            running_redis(options=["--tls-port", str(ports[1]), *common, *of_cluster]) as node,
        ):
            ask(node.port, "CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
            eventually_sync(lambda: b"cluster_state:ok" in ask(node.port, "CLUSTER", "INFO"), within_s=20)
            options = RedisOptions(
                url=f"rediss://{HOST}:{ports[0]}/0", start_timeout_ms=300, tls_ca_file=str(authority.certificate),
                tls_cert_file=str(client.certificate), tls_key_file=str(client.key),
            )  # fmt: skip
            yield Guarded(options, f"rediss+cluster://{HOST}:{ports[1]}", Authority(directory, "stranger"))
    except RuntimeError as error:
        if "tls" in str(error).lower():
            pytest.skip("this redis-server is built without TLS")
        raise


@pytest.mark.parametrize("topology", ["single", "cluster"])
async def test_commands_and_bells_over_tls(guarded: Guarded, prefix: str, topology: str) -> None:
    options = evolve(guarded.options, prefix=prefix, start_timeout_ms=20_000)
    if topology == "cluster":
        options = evolve(options, url=guarded.cluster_url)
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(2):
            adapters = await stack.enter_async_context(create_redis_adapters(options=options))
            engine = TaskEngine(broadcast=adapters.broadcast, short_term_store=adapters.short_term_store)
            nodes.append(Node(await stack.enter_async_context(engine), adapters))
        one, two = nodes
        task_id = await started(one)
        async with reading(two, task_id) as readers:
            for n in range(10):
                await one.engine.publish_event(task_id, event(n))
            await finish(one, task_id)
        assert_whole(readers, 11)
        assert two.adapters.broadcast.heard


async def refusal(options: RedisOptions) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        async with create_redis_adapters(options=options):
            pass
    return refused.value.kind


async def test_a_server_that_we_do_not_trust(guarded: Guarded, prefix: str) -> None:
    options = evolve(guarded.options, prefix=prefix, tls_ca_file=str(guarded.stranger.certificate))
    assert await refusal(options) == "tls"


async def test_a_client_that_the_server_does_not_trust(guarded: Guarded, prefix: str, tmp_path: Path) -> None:
    mine = guarded.stranger.sign("mine")
    options = evolve(guarded.options, prefix=prefix, tls_cert_file=str(mine.certificate), tls_key_file=str(mine.key))
    assert await refusal(options) in ("tls", "connection_closed", "connection_reset")


async def test_a_host_that_the_certificate_does_not_name(guarded: Guarded, prefix: str) -> None:
    options = evolve(guarded.options, prefix=prefix, url=guarded.options.url.replace(HOST, "localhost"))
    assert await refusal(options) == "tls"
    async with create_redis_adapters(
        options=evolve(options, tls_check_hostname=False, start_timeout_ms=20_000)
    ) as both:
        assert both.short_term_store.connection.health.is_healthy
