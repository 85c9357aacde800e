"""The Redis store and broadcast on a Cluster, against the contract kit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskcast_redis import RedisOptions
from tests.contracts.test_redis import TestRedisBroadcast, TestRedisShortTermStore, options_at
from tests.fixtures.scale import Scale
from tests.redis.groups import RedisCluster, running_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with running_cluster() as cluster:
        yield cluster


class TestClusterShortTermStore(TestRedisShortTermStore):
    @pytest.fixture
    def options(self, cluster: RedisCluster) -> RedisOptions:
        return options_at(cluster.url)

    @pytest.fixture
    def examples(self, scale: Scale) -> int:
        return scale(5, 100)


class TestClusterBroadcast(TestRedisBroadcast):
    @pytest.fixture
    def options(self, cluster: RedisCluster) -> RedisOptions:
        return options_at(cluster.url)


del TestRedisBroadcast, TestRedisShortTermStore  # theirs are run where they are defined
