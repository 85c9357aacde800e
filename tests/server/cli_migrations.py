"""The module of a long-term store that has migrations, as `taskcast migrate` looks for them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Steps:
    def __init__(self, names: list[str]) -> None:
        self.names = names

    async def pending(self) -> Sequence[str]:
        return tuple(self.names)

    async def apply(self) -> Sequence[str]:
        applied = tuple(self.names)
        self.names.clear()
        return applied


def open_store() -> None:
    """The factory; nobody calls it here."""


@asynccontextmanager
async def open_migrations(options: list[str]) -> AsyncIterator[Steps]:
    yield Steps(options)
