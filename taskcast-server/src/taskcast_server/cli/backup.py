"""``taskcast backup`` and ``taskcast restore``: the SQLite store as one file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Annotated

from taskcast_server.cli.commands import argument, option
from taskcast_server.cli.flags import ConfigOption, DbPathOption, OutputOption
from taskcast_server.cli.output import CliError, OutputFormat, confirm_or_fail, tell_result

BackupFile = Annotated[Path, argument(metavar="FILE", help="The file with the backup.")]


def backup(
    file: BackupFile,
    config: ConfigOption = None,
    db_path: DbPathOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Copy the store as it is now into a file of its own; the server may go on working."""
    from taskcast_core.builtin.sqlite import schema

    source = store_path(config, db_path)
    if not source.is_file():
        raise CliError(f"there is no store at {source}")
    if file.resolve() == source:
        raise CliError(f"{file} is the store itself")
    try:
        connection = schema.open_reader(source)
        try:
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            if owner != schema.APPLICATION_ID:
                raise CliError(f"{source} is not a Taskcast store")
            schema.backup(connection, file)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise CliError(f"cannot copy {source} to {file}: {error}") from error
    schema.check(file)
    size = file.stat().st_size
    tell_result(
        {"ok": True, "store": str(source), "file": str(file), "bytes": size},
        f"Copied {source} to {file} ({size} bytes)",
        output,
    )


def restore(
    file: BackupFile,
    config: ConfigOption = None,
    db_path: DbPathOption = None,
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask before replacing a store.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Put a backup in the place of the store; the server has to be stopped."""
    from taskcast_core.builtin.sqlite import schema
    from taskcast_core.builtin.sqlite.lock import FileLock

    target = store_path(config, db_path)
    if file.resolve() == target:
        raise CliError(f"{file} is the store itself")
    schema.check(file)
    if target.exists():
        confirm_or_fail(f"Replace the store at {target}?", assume_yes=yes)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(target)
    lock.acquire()
    try:
        _put_in_place(file, target)
    finally:
        lock.release()
    tell_result({"ok": True, "store": str(target), "file": str(file)}, f"Restored {target} from {file}", output)


def store_path(config: Path | None, db_path: Path | None) -> Path:
    """The file of the store that the server would use.

    Raises:
        CliError: it would not use SQLite.
    """
    if db_path is not None:
        return db_path.expanduser().resolve()
    from taskcast_server.cli.loading import SQLITE, load

    selected = load(config).short_term()
    path = getattr(selected.options, "path", None)
    if selected.name != SQLITE or not isinstance(path, Path):
        raise CliError(f"the short-term store is {selected.name}; name the file of a SQLite store with --db-path")
    return path.resolve()


def _put_in_place(file: Path, target: Path) -> None:
    """Replace the store at once. Its write-ahead log must be gone before: it would be applied to the new file."""
    part = target.with_name(target.name + ".part")
    shutil.copyfile(file, part)
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    _fold_log_into(target)
    part.replace(target)


def _fold_log_into(target: Path) -> None:
    if target.exists():
        try:
            connection = sqlite3.connect(target)
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        except sqlite3.Error:
            pass  # a damaged store may be just why there is a restore
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
