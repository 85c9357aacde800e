"""Real Taskcast servers for the client's tests: the program itself, as a process, one for all tests of a session.

Everyday runs use the one on memory, and `test_stores` tries the others; full runs try everything on every store.
"""

import shlex
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskcast_client import RetryPolicy, SyncTaskcastClient, TaskcastClient
from tests.fixtures.postgres_server import PostgresServer
from tests.fixtures.processes import HOST, GuardedProcess, Server, private_directory
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import FULL_SCALE

MEMORY = "logLevel: error\nauth:\n  mode: none\nworkers:\n  enabled: true\n"
SQLITE = MEMORY + "storage: sqlite\n"
REDIS = (
    MEMORY
    + """
adapters:
  broadcast: &redis
    provider: redis
    url: {redis_url}
    prefix: {prefix}
  shortTermStore: *redis
"""
)
POSTGRES = (
    REDIS
    + """
  longTermStore:
    provider: postgres
    url: {postgres_url}
    autoMigrate: true
"""
)
SECRET = "a-secret-of-these-tests-that-is-long-enough"
GUARDED = f"""
logLevel: error
workers:
  enabled: true
auth:
  mode: jwt
  jwt:
    algorithm: HS256
    secret: {SECRET}
adminApi: true
adminToken: the-admin-token
trustedServices:
  - name: tests
    key: the-key-of-a-service
    scope: ["*"]
"""


OURS = f"{Path(sys.executable).with_name('taskcast')} start -c {{config}} -p {{port}}"


class TaskcastServer(Server):
    """A server with a configuration of its own. ``launch``: how, as the conformance suite says it; `taskcast start`."""

    def __init__(self, directory: Path, config: str, launch: str = OURS) -> None:
        super().__init__(directory)
        self._command = launch
        (directory / "taskcast.config.yaml").write_text(config)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _launch(self) -> GuardedProcess:
        places = {"config": str(self.directory / "taskcast.config.yaml"), "port": str(self.port)}
        return GuardedProcess(
            [part.format(**places) for part in shlex.split(self._command)],
            log=self.directory / "taskcast.log",
            stop_signal=signal.SIGTERM,
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError):
            return False


@contextmanager
def running(config: str, launch: str = OURS) -> Iterator[TaskcastServer]:
    with private_directory("taskcast-client-") as directory:
        server = TaskcastServer(directory, config, launch)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def memory_server() -> Iterator[TaskcastServer]:
    with running(MEMORY) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_server() -> Iterator[TaskcastServer]:
    with running(SQLITE) as server:
        yield server


@pytest.fixture(scope="session")
def taskcast_on_redis(redis_server: RedisServer) -> Iterator[TaskcastServer]:
    with running(REDIS.format(redis_url=redis_server.url, prefix="client")) as server:
        yield server


@pytest.fixture(scope="session")
def taskcast_on_postgres(redis_server: RedisServer, postgres_server: PostgresServer) -> Iterator[TaskcastServer]:
    """Redis in front of PostgreSQL."""
    database = postgres_server.create_database()
    with running(POSTGRES.format(redis_url=redis_server.url, prefix="client-pg", postgres_url=database)) as server:
        yield server


@pytest.fixture(scope="session")
def guarded_server() -> Iterator[TaskcastServer]:
    """A server that wants a token or a service key."""
    with running(GUARDED) as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[TaskcastServer]:
    """A durable server for one test alone, which may stop or kill it."""
    with running(SQLITE) as server:
        yield server


STORES = {
    "memory": "memory_server",
    "sqlite": "sqlite_server",
    "redis": "taskcast_on_redis",
    "postgres": "taskcast_on_postgres",
}
"""The fixture of the server on each store."""


@pytest.fixture(params=STORES if FULL_SCALE else ["memory"])
def server(request: pytest.FixtureRequest) -> TaskcastServer:
    found: TaskcastServer = request.getfixturevalue(STORES[request.param])
    return found


@pytest.fixture
async def client(anyio_backend: str, server: TaskcastServer) -> AsyncIterator[TaskcastClient]:
    async with TaskcastClient(server.url, retry=RetryPolicy(first_s=0.01)) as client:
        yield client


@pytest.fixture
def sync_client(server: TaskcastServer) -> Iterator[SyncTaskcastClient]:
    with SyncTaskcastClient(server.url) as client:
        yield client


@asynccontextmanager
async def before(server: TaskcastServer, **options: Any) -> AsyncIterator[tuple[FaultProxy, TaskcastClient]]:
    """A proxy that fails on demand before a server, and a client that goes through it."""
    async with (
        FaultProxy(HOST, server.port) as proxy,
        TaskcastClient(f"http://{HOST}:{proxy.port}", **options) as client,
    ):
        yield proxy, client
