"""One process per file: an operating system's lock on a file beside it, which ends with the process however it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from taskcast_core.errors import ConfigError


class StoreFileError(ConfigError):
    """The file cannot be opened as a store: in use, of a newer layout, damaged, or something else altogether."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"SQLite store {path}: {reason}")


class FileLock:
    """The right to be the only store on a path; the lock file names its holder's process id."""

    def __init__(self, path: Path) -> None:
        self._store_path = path
        self.path = path.with_name(path.name + ".lock")
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StoreFileError: somebody else holds it (also: another store in this process), or there is no such folder.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            raise StoreFileError(self._store_path, f"cannot open {self.path}: {error.strerror}") from error
        try:
            _lock(fd)
        except OSError as error:
            holder = _holder(fd)
            os.close(fd)
            raise StoreFileError(self._store_path, f"the file is in use by {holder}; only one store may have it open") \
                from error  # fmt: skip
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        """Give the lock back. The lock file stays: removing it would let two others lock two files of one name."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def _holder(fd: int) -> str:
    try:
        pid = int(os.pread(fd, 32, 0)) if hasattr(os, "pread") else 0
    except (OSError, ValueError):
        pid = 0
    if not pid:
        return "another process"
    return "this process" if pid == os.getpid() else f"the process {pid}"


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # behind the text, so that others can read who holds it
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
