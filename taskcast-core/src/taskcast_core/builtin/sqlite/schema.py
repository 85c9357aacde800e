"""Opening the file: its layout, its settings, and the errors of a file that is not ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from taskcast_core.builtin.sqlite.holes import REMOVED, spread
from taskcast_core.builtin.sqlite.lock import StoreFileError
from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.rows import insert_all, position
from taskcast_core.packing import Counts, add_counts, pack_counts, unpack_counts

APPLICATION_ID = 0x54434153
"""Marks a file as ours in its header (``TCAS``)."""

_STATEMENTS = 256


# ── Layouts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _first_layout(connection: sqlite3.Connection) -> None:
    _run(connection, "schema.sql")


def _second_layout(connection: sqlite3.Connection) -> None:
    """Give every hole an order of its entries: the first layout knew only how many of each kind it holds."""
    _run(connection, "schema_2.sql")
    for num, first, last, counts in connection.execute("SELECT task_num, first, last, counts FROM holes"):
        passed = Counts()
        for one in spread(first, last, unpack_counts(counts)):
            _add_to_checkpoint(connection, num, one.first, passed)
            insert_all(connection, REMOVED, [(position(num, one.first), one.n, one.kind)])
            add_counts(passed, {one.kind: one.n})


def _add_to_checkpoint(connection: sqlite3.Connection, num: int, index: int, more: Counts) -> None:
    """A checkpoint inside a hole said what there is before the hole."""
    row = connection.execute("SELECT counts FROM checkpoints WHERE task_num = ? AND idx = ?", (num, index)).fetchone()
    if row is None or not more:
        return
    counts = unpack_counts(row[0])
    add_counts(counts, more)
    connection.execute(
        "UPDATE checkpoints SET counts = ? WHERE task_num = ? AND idx = ?", (pack_counts(counts), num, index)
    )


def _run(connection: sqlite3.Connection, script: str) -> None:
    for statement in _statements(files(__package__).joinpath(script).read_text("utf-8")):
        connection.execute(statement)


def _statements(script: str) -> list[str]:
    """The statements of a script one by one: ``executescript`` would commit the transaction that we are in."""
    found: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first_layout, _second_layout)
"""The n-th step leads from layout n to n + 1; a file's layout is its ``user_version``. There is no way back."""


# ── Opening ───────────────────────────────────────────────────────────────────────────────────────────────────────


def open_writer(path: Path, options: SqliteOptions) -> sqlite3.Connection:
    """The one connection that writes; makes the file or brings it up to date.

    Raises:
        StoreFileError: it is no store, of a newer layout, damaged, or cannot be opened.
    """
    try:
        connection = _connect(path)
    except sqlite3.Error as error:
        raise StoreFileError(path, f"cannot be opened: {error}") from error
    try:
        _check_layout(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA temp_store = MEMORY")  # the journals of single statements, too
        connection.execute(f"PRAGMA journal_size_limit = {options.wal_bytes}")
        connection.execute(f"PRAGMA cache_size = -{options.cache_bytes >> 10}")
        _migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        raise StoreFileError(path, f"cannot be used: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads; each read sees one committed state."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_writer_of_pages(path: Path, options: SqliteOptions) -> sqlite3.Connection:
    """A connection for checkpoints, which write what has been committed to where it belongs."""
    connection = _connect(path)
    connection.execute(f"PRAGMA synchronous = {options.synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=5, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
    )


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _check_layout(connection: sqlite3.Connection, path: Path) -> None:
    owner, version = _number(connection, "application_id"), _number(connection, "user_version")
    if owner != APPLICATION_ID and (owner or version or _number(connection, "schema_version")):
        raise StoreFileError(path, "the file is not a Taskcast store")
    if version > len(MIGRATIONS):
        raise StoreFileError(
            path,
            f"the file has layout {version}, but this version of Taskcast knows up to {len(MIGRATIONS)}; upgrade it",
        )


def _migrate(connection: sqlite3.Connection) -> None:
    version = _number(connection, "user_version")
    if version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def check(path: Path) -> None:
    """Look through a file that is not open anywhere, for instance a backup before it is put in place.

    Raises:
        StoreFileError: missing, not a store, of a newer layout, or damaged; the message names the first defect.
    """
    if not path.is_file():
        raise StoreFileError(path, "there is no such file")
    try:
        connection = _connect(path)
    except sqlite3.Error as error:
        raise StoreFileError(path, f"cannot be opened: {error}") from error
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_layout(connection, path)
        if not _number(connection, "user_version"):
            raise StoreFileError(path, "the file is empty")
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreFileError(path, f"the file is damaged: {verdict}")
    except sqlite3.Error as error:
        raise StoreFileError(path, f"cannot be read: {error}") from error
    finally:
        connection.close()


def backup(source: sqlite3.Connection, path: Path) -> None:
    """Write one committed state of an open store into a file of its own, which replaces ``path`` when it is whole."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    target = sqlite3.connect(part, isolation_level=None)
    try:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # a single file, without a write-ahead log beside it
    finally:
        target.close()
    part.replace(path)
