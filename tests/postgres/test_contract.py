"""The PostgreSQL store, against the contract kit and a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskcast_core.testing import LongTermStoreContract
from taskcast_postgres import PostgresLongTermStore, PostgresOptions
from tests.fixtures.postgres_server import PostgresServer

pytestmark = pytest.mark.anyio


class TestPostgresLongTermStore(LongTermStoreContract):
    """The whole contract."""

    @pytest.fixture
    async def store(self, postgres_server: PostgresServer) -> AsyncIterator[PostgresLongTermStore]:
        """An open store in a new database."""
        options = PostgresOptions(url=postgres_server.create_database(), auto_migrate=True)
        async with PostgresLongTermStore(options) as store:
            yield store
