"""The way to Redis for commands: one script call per verb, a heartbeat, the store's time, and failing fast."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from redis import exceptions as driver
from redis.asyncio import Redis, RedisCluster

from taskcast_core.backoff import Backoff
from taskcast_core.errors import ConfigError, StoreUnavailable
from taskcast_core.stopping import stop
from taskcast_redis.calls import Command, send
from taskcast_redis.failures import COMMAND, TROUBLE, is_mistake, kind_of, unavailable
from taskcast_redis.health import Dependency, sign_of_life
from taskcast_redis.keys import DEFAULT_SHARDS, Keys
from taskcast_redis.layout import Layout, agree
from taskcast_redis.link import unopened
from taskcast_redis.options import RedisOptions
from taskcast_redis.packing import packed_quickly
from taskcast_redis.pipe import Pipe
from taskcast_redis.scripts import script
from taskcast_redis.topology import Client, make_client, sentinels_of

_log = logging.getLogger(__name__)

Argument = bytes | str | int
Call = tuple[str, str, tuple[Argument, ...]]
"""A verb, the tag of the shard that it is for, and its arguments."""

DRIFT_MS_PER_S = 0.1
"""How much less sure the server's time is with every second since it was asked for."""

SHARDED_SINCE = 7
"""The version of Redis that brought pub/sub in which a message stays with the nodes of its slot."""

MOST_RUNG = 4_096
"""So many bells of commits are known to have been rung; a forgotten one is rung again, which does no harm."""

LAYOUT_CHECK_EVERY = 20
"""Heartbeats between two looks at the layout's version; a server that was emptied gets it anew."""


class RedisConnection:
    """Commands to one Redis, Sentinel-watched master or Cluster.

    Attributes:
        keys: the key space, known once connected. health: of this connection. persistence: what an acknowledgement
        survives. stores, broadcasts: open users of this connection. is_cluster: whether keys of different shards may
        live on different servers. has_sharded_bells: whether bells stay in the part
        of the Cluster that serves their task.
    """

    def __init__(self, options: RedisOptions, client: Client | None = None) -> None:
        self.options = options
        self._owns_client = client is None
        self.client: Client = packed_quickly(make_client(options)) if client is None else client
        self.is_cluster = isinstance(self.client, RedisCluster)
        self.health = Dependency(COMMAND)
        self.keys = Keys(options.prefix, options.shards or DEFAULT_SHARDS)
        self.persistence = ""
        self.stores = self.broadcasts = 0
        self.has_sharded_bells = False
        self._rung: dict[tuple[str, int, int], None] = {}
        self._room = asyncio.Semaphore(options.max_connections)
        self._pipe = None if self.is_cluster else self._new_pipe()
        self._anchor = (time.monotonic(), time.time() * 1000)
        self._doubt_ms = float("inf")
        self._beat: asyncio.Task[None] | None = None
        self._doubt = asyncio.Event()
        self._is_silent = False  # away for a moment, as it may turn out
        self._users = 0

    # ── Life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Connect, and check that this Redis can be worked with; nested use shares the connection.

        Raises:
            StoreUnavailable: not reachable within ``start_timeout_ms``. ConfigError: reachable, but not fit.
        """
        self._users += 1
        if self._users == 1:
            try:
                await self._start()
            except BaseException:
                await self.__aexit__(None, None, None)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users:
            return
        if self._beat is not None:
            await stop([self._beat])
            self._beat = None
        if self._pipe is not None:
            await self._pipe.close()
        if self._owns_client:
            for client in (self.client, *sentinels_of(self.client)):
                with contextlib.suppress(*TROUBLE):
                    await client.aclose()

    async def _start(self) -> None:
        options = self.options
        if not options.prefix or set(options.prefix) & set("{}"):
            raise ConfigError(f'the prefix of the Redis keys must be a text without braces, not "{options.prefix}"')
        if _decodes(self.client):
            raise ConfigError("the Redis client decodes replies; make it with decode_responses=False")
        backoff = Backoff(first_s=options.retry_first_ms / 1000, most_s=options.retry_most_ms / 1000)
        deadline = time.monotonic() + options.start_timeout_ms / 1000
        while True:
            try:
                await self._sign_of_life()
                await self._check_server()
                await self._check_layout()
                break
            except TROUBLE as error:
                wait = backoff.next_s()
                is_final = kind_of(error) == "authentication" or is_mistake(error)
                if is_final or time.monotonic() + wait > deadline:
                    self.health.is_away(kind_of(error), state="unhealthy")
                    raise unavailable(error) from error
                self.health.is_away(kind_of(error), next_retry_s=wait)
                await asyncio.sleep(wait)
        self.health.is_back()
        self._beat = asyncio.get_running_loop().create_task(self._beat_forever())

    def _new_pipe(self) -> Pipe:
        options = self.options
        return Pipe(
            partial(unopened, self.client),
            connect_timeout_s=options.connect_timeout_ms / 1000,
            timeout_s=options.command_timeout_ms / 1000,
        )

    # ── What kind of Redis ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def keeps_order(self) -> bool:
        """Whether calls arrive in the order in which they are sent, also while others are in flight."""
        return self._pipe is not None and not self.options.wait_replicas

    @property
    def bell_command(self) -> str:
        """How scripts ring."""
        return "SPUBLISH" if self.has_sharded_bells else "PUBLISH"

    @property
    def rings(self) -> bool:
        """Whether a store and a broadcast share this connection, so that commits ring by themselves."""
        return self.stores > 0 and self.broadcasts > 0

    @property
    def ringing(self) -> str:
        """How scripts ring for what they change, if they do: see ``lua/bells.lua``.

        Where nobody hears a task, nothing is said. On a Cluster with plain bells, no node knows who hears it.
        """
        if not self.rings:
            return ""
        if self.has_sharded_bells:
            return "SPUBLISH SHARDNUMSUB"
        return "PUBLISH" if self.is_cluster else "PUBLISH NUMSUB"

    def note_rung(self, task_id: str, epoch: int, last_index: int) -> None:
        """A commit has rung by itself."""
        self._rung[task_id, epoch, last_index] = None
        if len(self._rung) > MOST_RUNG:
            del self._rung[next(iter(self._rung))]

    def has_rung(self, task_id: str, epoch: int, last_index: int) -> bool:
        """Whether a commit has; says so once."""
        return self._rung.pop((task_id, epoch, last_index), True) is None

    @property
    def groups(self) -> list[list[str]]:
        """The tags of all shards, those together that one call may name."""
        tags = self.keys.tags
        return [[tag] for tag in tags] if self.is_cluster else [list(tags)]

    async def _info(self, section: str) -> list[dict[str, Any]]:
        if isinstance(self.client, RedisCluster):
            found = await self.client.info(section, target_nodes=RedisCluster.PRIMARIES)
            nodes = [found] if section in found or "redis_version" in found else list(found.values())
            return [node for node in nodes if isinstance(node, dict)]
        return [await self.client.info(section)]

    async def _check_server(self) -> None:
        for memory in await self._info("memory"):
            policy = memory.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                raise ConfigError(
                    f'Redis evicts keys when memory is short (maxmemory-policy is "{policy}"), which would lose '
                    'tasks silently; set it to "noeviction"'
                )
        self.persistence = _persistence(await self._info("persistence"))
        self.has_sharded_bells = self.is_cluster and all(
            int(str(node["redis_version"]).partition(".")[0]) >= SHARDED_SINCE for node in await self._info("server")
        )

    async def _check_layout(self) -> None:
        mine = Layout(self.options.shards or self.keys.shards, self.has_sharded_bells)
        found = await agree(self.client, self.keys.prefix, mine, is_fixed=self.options.shards is not None)
        self.keys, self.has_sharded_bells = Keys(self.keys.prefix, found.shards), found.has_sharded_bells

    # ── Time and heartbeat ────────────────────────────────────────────────────────────────────────────────────────

    def now_ms(self) -> int:
        """The server's time, as of the last heartbeat and carried on since."""
        then, server_ms = self._anchor
        return int(server_ms + (time.monotonic() - then) * 1000)

    async def _sync(self) -> None:
        """Ask for the time, which is a sign of life, too."""
        before = time.monotonic()
        found: Any
        if isinstance(self.client, RedisCluster):
            found = await self.client.time(target_nodes=RedisCluster.PRIMARIES)
            found = next(iter(found.values())) if isinstance(found, dict) else found
        else:
            [found] = await self._send(self.client, "", [("TIME",)])
            if isinstance(found, Exception):
                raise found
        seconds, micros = found
        after = time.monotonic()
        # The reply was made some time in between, so its time is never ahead of the server's now: what is due by it is
        # due there. A quick reply says more than a slow one, for a while.
        doubt_ms, (then, _) = (after - before) * 1000, self._anchor
        if doubt_ms <= self._doubt_ms + (after - then) * DRIFT_MS_PER_S:
            self._anchor = (after, int(seconds) * 1000 + int(micros) / 1000)
            self._doubt_ms = doubt_ms

    async def check(self) -> None:
        """A sign of life, now.

        Raises:
            StoreUnavailable: there is none.
        """
        if not self.health.is_healthy:
            raise StoreUnavailable(COMMAND, self.health.error_kind or "unavailable")
        await self.guarded(lambda client: client.ping())

    async def _beat_forever(self) -> None:
        options = self.options
        backoff = Backoff(first_s=options.retry_first_ms / 1000, most_s=options.retry_most_ms / 1000)
        beats = 0
        while True:
            wait = options.heartbeat_ms / 1000
            try:
                await self._sign_of_life()
                beats += 1
                if not self.health.is_healthy or beats % LAYOUT_CHECK_EVERY == 0:
                    await self._check_layout()
                self.health.is_back()
                backoff.reset()
            except TROUBLE as error:
                self._is_silent, wait = False, backoff.next_s()
                self.health.is_away(kind_of(error), next_retry_s=wait)
                await self._drop_connections()
            except ConfigError:
                wait = options.retry_most_ms / 1000
                self.health.is_away("layout", next_retry_s=wait, state="unhealthy")
                _log.exception("this Redis can no longer be worked with")
            self._is_silent = False
            await self._pause(wait)

    async def _sign_of_life(self) -> None:
        """See that Redis answers. While it is only silent, this process is not ready, and calls wait."""
        options = self.options
        if not self.health.is_healthy:
            async with asyncio.timeout(options.connect_timeout_ms / 1000):
                await self._sync()
            return
        await sign_of_life(
            self._sync(),
            quick_s=options.heartbeat_timeout_ms / 1000,
            silence_s=options.silence_ms / 1000,
            on_silent=self._fall_silent,
        )

    def _fall_silent(self) -> None:
        self._is_silent = True
        self.health.is_away("timeout")

    async def _pause(self, seconds: float) -> None:
        """Wait; cut short while healthy when somebody has reason to doubt it."""
        self._doubt.clear()
        if not self.health.is_healthy:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._doubt.wait()

    async def _drop_connections(self) -> None:
        """Sockets that may be dead are not used again; calls that wait on them fail now."""
        if self._pipe is not None:
            self._pipe.drop()
        with contextlib.suppress(*TROUBLE):
            if isinstance(self.client, Redis):
                await self.client.connection_pool.disconnect(inuse_connections=True)
            else:
                for node in self.client.get_nodes():
                    await node.disconnect()

    # ── Calls ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Call a verb's script once.

        Raises:
            StoreUnavailable: Redis is away (at once, if that is known), or did not answer in time.
        """
        return await self.guarded(lambda client: self._call(client, name, keys, arguments))

    async def run_and_wait(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """``run``, acknowledged only once ``wait_replicas`` replicas have it.

        Raises:
            StoreUnavailable: too few replicas have it in time (kind ``replicas``); the outcome is unknown.
        """
        replicas, limit_ms = self.options.wait_replicas, self.options.command_timeout_ms // 2
        if not replicas:
            return await self.run(name, keys, arguments)
        waiting: Command = ("WAIT", replicas, limit_ms)
        reply, copies = await self.guarded(lambda client: self._call(client, name, keys, arguments, waiting))
        if copies < replicas:
            raise StoreUnavailable(COMMAND, "replicas")
        return reply

    async def _send(self, client: Client, tag: str, commands: Sequence[Command]) -> list[Any]:
        """The replies to some commands, what is refused among them."""
        if self._pipe is None or commands[-1][0] == "WAIT":  # which holds up everything behind it on its connection
            return await send(client, tag, commands)
        return await self._pipe.ask(commands)

    async def _call(
        self, client: Client, name: str, keys: Sequence[str], arguments: Sequence[Argument], *more: Command
    ) -> Any:
        """A script by its digest; by its text where that is not known yet. With ``more`` commands, all replies."""
        chosen = script(name)
        replies: list[Any] = []
        for head in (("EVALSHA", chosen.sha), ("EVAL", chosen.text)):
            replies = await self._send(client, keys[0], [(*head, len(keys), *keys, *arguments), *more])
            if not isinstance(replies[0], driver.NoScriptError):
                break
        for each in replies:
            if isinstance(each, Exception):
                raise each
        return replies if more else replies[0]

    async def look(self, calls: Sequence[Call]) -> list[Any]:
        """Call the scripts of verbs that change nothing, all of one shard where this is a Cluster, in one go.

        Returns a reply for each; what a script is refused for stands in place of its own.

        Raises:
            StoreUnavailable: see ``run``.
        """
        replies: list[Any] = await self.guarded(lambda client: self._look(client, calls))
        return replies

    async def _look(self, client: Client, calls: Sequence[Call]) -> list[Any]:
        shard = calls[0][1]
        replies = await self._send(client, shard, [("EVALSHA", script(name).sha, 1, tag, *a) for name, tag, a in calls])
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, driver.NoScriptError)]
        if unknown:
            named = [calls[n] for n in unknown]
            again = await self._send(client, shard, [("EVAL", script(name).text, 1, tag, *a) for name, tag, a in named])
            for n, reply in zip(unknown, again, strict=True):
                replies[n] = reply
        for reply in replies:
            if isinstance(reply, Exception) and not is_mistake(reply):
                raise reply
        return replies

    async def guarded(self, call: Callable[[Any], Any]) -> Any:
        """Talk to the client within the bounds of time and number; trouble becomes StoreUnavailable."""
        if not self.health.is_healthy and not self._is_silent:
            raise StoreUnavailable(COMMAND, self.health.error_kind or "unavailable")
        limit_s = (self.options.connect_timeout_ms + self.options.command_timeout_ms) / 1000
        try:
            async with asyncio.timeout(limit_s), self._room:
                return await call(self.client)
        except TROUBLE as error:
            if is_mistake(error):
                raise
            self._doubt.set()
            raise unavailable(error) from error


def _decodes(client: Client) -> bool:
    encoder: Any = client.encoder if isinstance(client, RedisCluster) else client.get_encoder()  # type: ignore[no-untyped-call]
    return bool(encoder.decode_responses)


def _persistence(nodes: Sequence[dict[str, Any]]) -> str:
    """What an acknowledgement survives, for people."""
    if all(node.get("aof_enabled") for node in nodes):
        return "in Redis, logged to its append-only file (appendfsync decides what a power cut takes)"
    if any(node.get("rdb_saves") or node.get("rdb_last_save_time") for node in nodes):
        return "in Redis' memory; a crash of Redis takes what came after its last snapshot, if it makes any"
    return "in Redis' memory only"
