"""Several Redis servers that belong together: a Cluster, or a master with a replica and Sentinels."""

import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from tests.fixtures.eventually import eventually_sync
from tests.fixtures.processes import HOST, GuardedProcess, free_port, private_directory
from tests.fixtures.redis_server import RedisServer, newest_redis
from tests.fixtures.servers import running_redis

SLOTS = 16384


def ask(port: int, *command: str | int) -> bytes:
    """What a server answers to one command, undecoded."""
    words = [str(word).encode() for word in command]
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    with socket.create_connection((HOST, port), timeout=2) as line:
        line.sendall(request)
        line.settimeout(0.3)
        reply = b""
        try:
            while chunk := line.recv(65536):
                reply += chunk
                if reply[:1] in b"+-:" and reply.endswith(b"\r\n"):
                    break
        except TimeoutError:
            pass
    if reply.startswith(b"-"):
        raise RuntimeError(f"{command}: {reply.decode()}")
    return reply


@frozen
class RedisCluster:
    """Masters that share all slots, and a replica of each if it was asked for."""

    nodes: Sequence[RedisServer]
    replicas: Sequence[RedisServer] = ()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def serving(self, slot: int) -> RedisServer:
        """The master that served a slot at first."""
        return next(node for n, node in enumerate(self.nodes) if slot < _bound(n + 1, len(self.nodes)))


def node_id(node: RedisServer) -> str:
    """What a node of a Cluster is called there."""
    return ask(node.port, "CLUSTER", "MYID").split(b"\r\n")[1].decode()


def _bound(n: int, masters: int) -> int:
    return n * SLOTS // masters


@contextmanager
def running_cluster(masters: int = 3, *, replicated: bool = False) -> Iterator[RedisCluster]:
    """A Cluster that serves all slots."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        nodes = [
            stack.enter_context(running_redis(options=(*options, "--cluster-port", str(free_port()))))
            for _ in range(masters * (2 if replicated else 1))
        ]
        cluster = RedisCluster(nodes[:masters], nodes[masters:])
        for n, node in enumerate(nodes):
            ask(node.port, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for n, node in enumerate(cluster.nodes):
            ask(node.port, "CLUSTER", "ADDSLOTSRANGE", _bound(n, masters), _bound(n + 1, masters) - 1)
        for node in nodes[1:]:
            bus = ask(node.port, "CONFIG", "GET", "cluster-port").split(b"\r\n")[-2].decode()
            ask(nodes[0].port, "CLUSTER", "MEET", HOST, node.port, bus)
        known = f"cluster_known_nodes:{len(nodes)}".encode()
        eventually_sync(lambda: all(known in ask(node.port, "CLUSTER", "INFO") for node in nodes), within_s=30)
        for master, replica in zip(cluster.nodes, cluster.replicas, strict=False):
            eventually_sync(lambda m=master, r=replica: _replicates(r, m), within_s=30)  # type: ignore[misc]
        eventually_sync(
            lambda: all(b"cluster_state:ok" in ask(node.port, "CLUSTER", "INFO") for node in nodes), within_s=30
        )
        yield cluster


def _replicates(replica: RedisServer, master: RedisServer) -> bool:
    """Whether it does by now; tells it to, once it knows its master."""
    if b"role:slave" not in ask(replica.port, "INFO", "replication"):
        try:
            ask(replica.port, "CLUSTER", "REPLICATE", node_id(master))
        except RuntimeError:  # it has not met the master yet
            return False
    return b"master_link_status:up" in ask(replica.port, "INFO", "replication")


class Sentinel:
    """One Sentinel process."""

    def __init__(self, directory: Path, master: RedisServer, quorum: int) -> None:
        self.port = free_port()
        config = directory / f"sentinel-{self.port}.conf"
        config.write_text(
            f"port {self.port}\nbind {HOST}\ndir {directory}\n"
            f"sentinel monitor taskcast {HOST} {master.port} {quorum}\n"
            "sentinel down-after-milliseconds taskcast 1000\n"
            "sentinel failover-timeout taskcast 4000\n"
        )
        self._process = GuardedProcess(
            [newest_redis(), config, "--sentinel"], log=directory / f"{self.port}.log", stop_signal=signal.SIGTERM
        )

    def stop(self) -> None:
        self._process.kill()

    def knows(self) -> bytes:
        """The address of the master."""
        return ask(self.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "taskcast")


@frozen
class SentinelGroup:
    """A master, its replica, and three Sentinels that watch them."""

    master: RedisServer
    replica: RedisServer
    sentinels: Sequence[Sentinel]

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"{HOST}:{one.port}" for one in self.sentinels) + "/taskcast/0"


@contextmanager
def running_sentinels() -> Iterator[SentinelGroup]:
    """A group that can fail over."""
    with ExitStack() as stack:
        master = stack.enter_context(running_redis())
        replica = stack.enter_context(running_redis(options=("--replicaof", HOST, str(master.port))))
        directory = stack.enter_context(private_directory("taskcast-sentinel-"))
        eventually_sync(lambda: b"master_link_status:up" in ask(replica.port, "INFO", "replication"), within_s=20)
        sentinels = [Sentinel(directory, master, 2) for _ in range(3)]
        for one in sentinels:
            stack.callback(one.stop)
        eventually_sync(lambda: all(_is_ready(one) for one in sentinels), within_s=30)
        yield SentinelGroup(master, replica, sentinels)


def _is_ready(sentinel: Sentinel) -> bool:
    """Whether it has found the replica and both other Sentinels."""
    try:
        said = ask(sentinel.port, "SENTINEL", "MASTER", "taskcast").split(b"\r\n")
    except OSError:
        time.sleep(0.1)
        return False
    facts = dict(zip(said[2::4], said[4::4], strict=False))
    return facts.get(b"num-slaves") == b"1" and facts.get(b"num-other-sentinels") == b"2"
