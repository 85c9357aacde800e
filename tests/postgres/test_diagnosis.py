"""What a PostgreSQL database says of itself to `taskcast doctor`."""

from __future__ import annotations

import pytest

from taskcast_postgres import PostgresLongTermStore

pytestmark = pytest.mark.anyio


async def test_migrations_and_the_room_for_the_pool(store: PostgresLongTermStore) -> None:
    facts = await store.diagnose()
    assert facts["kind"] == "postgres"
    assert facts["migrations"]["pending"] == [] and facts["migrations"]["applied"] >= 1
    assert facts["pool"]["most"] == store.options.max_connections
    assert 1 <= facts["pool"]["usedOfServer"] <= facts["pool"]["ofServer"]
    async with store.database.session() as session:
        await session.run(
            "DELETE FROM taskcast.migrations WHERE number = (SELECT max(number) FROM taskcast.migrations)"
        )
    assert len((await store.diagnose())["migrations"]["pending"]) == 1
