"""Our in-memory long-term store keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.testing import LongTermStoreContract

pytestmark = pytest.mark.anyio


class TestMemoryLongTermStore(LongTermStoreContract):
    """The whole contract."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryLongTermStore]:
        """An open, empty store."""
        async with MemoryLongTermStore() as store:
            yield store
