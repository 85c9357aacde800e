"""The numbered steps of the tables' layout: plain SQL files, applied once, in order, and never changed afterwards.

Steps expand first and contract a release later: the header ``-- requires: n`` of a file names the oldest layout that a
release must know to go on working beside it, so that two releases run side by side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files

from attrs import frozen

from taskcast_core.errors import ConfigError
from taskcast_postgres.database import Database, Row, Session
from taskcast_postgres.options import PostgresOptions

_NAME = re.compile(r"(\d{4})_\w+\.sql")
_REQUIRES = re.compile(r"-- requires: (\d+)\n")

_LONGEST_MS = 3_600_000
"""A step may have to go through all rows of a large table, or wait for another process that does."""

_TABLE = """
CREATE TABLE IF NOT EXISTS taskcast.migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    requires INTEGER NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
"""


class LayoutError(ConfigError):
    """The database's tables are not those that this release works with."""


@frozen
class Step:
    """One file. ``checksum``: SHA-384 of its text."""

    number: int
    name: str
    text: str
    requires: int

    @property
    def checksum(self) -> str:
        """What must never change once the step has been applied anywhere."""
        return hashlib.sha384(self.text.encode()).hexdigest()


@cache
def steps() -> tuple[Step, ...]:
    """All steps that this release knows, in order."""
    found = []
    for file in files(__package__).joinpath("migrations").iterdir():
        if name := _NAME.fullmatch(file.name):
            text = file.read_text("utf-8")
            requires = _REQUIRES.match(text)
            assert requires is not None, f"{file.name} does not say what it requires"
            found.append(Step(int(name[1]), file.name.removesuffix(".sql"), text, int(requires[1])))
    return tuple(sorted(found, key=lambda step: step.number))


class Migrations:
    """The steps of one database."""

    def __init__(self, database: Database, known: Sequence[Step] | None = None) -> None:
        self._database = database
        self._steps = tuple(steps() if known is None else known)

    async def pending(self) -> Sequence[str]:
        """Names of the steps that have not been applied, in order.

        Raises:
            LayoutError: an applied step has been changed since. StoreUnavailable.
        """
        async with self._database.session() as session:
            applied = await _applied(session)
        return [step.name for step in self._unapplied(applied)]

    async def apply(self) -> Sequence[str]:
        """Apply what is pending, each step in a transaction; the names of those that this call has applied.

        Processes that start at one time take turns.

        Raises:
            LayoutError, StoreUnavailable: as ``pending``; the steps before the failing one stay applied.
        """
        done = []
        for step in self._steps:
            async with self._database.transaction(_LONGEST_MS) as session:
                await session.run("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", self._lock)
                await self._make_schema(session)
                await session.script(_TABLE)
                if step in self._unapplied(await _applied(session)):
                    await session.script(step.text)
                    await session.run(
                        "INSERT INTO taskcast.migrations (number, name, checksum, requires) VALUES (%s, %s, %s, %s)",
                        step.number, step.name, step.checksum, step.requires,
                    )  # fmt: skip
                    done.append(step.name)
        return done

    async def check(self) -> None:
        """See that this release can work with the tables as they are.

        Raises:
            LayoutError: it cannot, and what to do about it.
        """
        async with self._database.session() as session:
            applied = await _applied(session)
        if pending := self._unapplied(applied):
            missing = "are missing" if not applied else f"lack {', '.join(step.name for step in pending)}"
            raise LayoutError(
                f'the PostgreSQL tables in the schema "{self._database.options.schema}" {missing}; '
                "run `taskcast migrate`, or set TASKCAST_AUTO_MIGRATE=1"
            )
        newest = max((step.number for step in self._steps), default=0)
        requires = max((row[3] for row in applied), default=0)
        if requires > newest:
            raise LayoutError(
                f"the PostgreSQL tables are of layout {requires}, and this release knows up to {newest}; upgrade it"
            )

    async def _make_schema(self, session: Session) -> None:
        """Not ``IF NOT EXISTS``, for which PostgreSQL wants the right to make it also where it is there."""
        name = self._database.options.schema
        if not await session.row("SELECT 1 FROM pg_namespace WHERE nspname = %s", name):
            await session.script(f'CREATE SCHEMA "{name}"')

    @property
    def _lock(self) -> str:
        return f"taskcast migrations of {self._database.options.schema}"

    def _unapplied(self, applied: Sequence[Row]) -> list[Step]:
        known = {number: (name, checksum) for number, name, checksum, _ in applied}
        for step in self._steps:
            if step.number in known and known[step.number] != (step.name, step.checksum):
                raise LayoutError(
                    f"migration {step.name} is not what was applied to this database as {known[step.number][0]}; "
                    "applied migrations must not be changed"
                )
        return [step for step in self._steps if step.number not in known]


async def _applied(session: Session) -> list[Row]:
    if not await session.row("SELECT 1 WHERE to_regclass('taskcast.migrations') IS NOT NULL"):
        return []
    return await session.rows("SELECT number, name, checksum, requires FROM taskcast.migrations ORDER BY number")


@asynccontextmanager
async def opened_migrations(options: PostgresOptions) -> AsyncIterator[Migrations]:
    """The migrations of a database, connected."""
    database = Database(options)
    await database.open()
    try:
        yield Migrations(database)
    finally:
        await database.close()


async def migrate(url: str, *, dry_run: bool = False, schema: str = "taskcast") -> Sequence[str]:
    """Bring a database up to date: names of the steps that were applied (``dry_run``: that would be).

    Raises:
        LayoutError: an applied step has been changed since. StoreUnavailable: PostgreSQL is away.
    """
    async with opened_migrations(PostgresOptions(url=url, schema=schema)) as migrations:
        return await (migrations.pending() if dry_run else migrations.apply())
