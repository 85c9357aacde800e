"""A file of lines that are only ever appended, and that one process has open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from taskcast_core.errors import ConfigError, StoreUnavailable

HEADER = b'{"taskcast-journal":1}\n'


class Journal:
    """The right to append to the file. A line is in it whole, or not at all."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self.path, self._fsync = path, fsync
        self._fd = self._size = -1

    def open(self) -> list[bytes]:
        """Lock the file and give the lines that are in it, or raise ConfigError."""
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"the journal {self.path} is in use by another store") from None
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]  # a process that was killed may have left half a line
        if not whole.startswith(HEADER) and not HEADER.startswith(content):
            raise ConfigError(f"{self.path} is not a journal that this version can read")
        self._size = len(whole)
        os.ftruncate(self._fd, self._size)
        if not whole:
            self.append(HEADER.rstrip())
        return whole.splitlines()[1:]

    def append(self, line: bytes) -> None:
        """Write one line, or raise StoreUnavailable: then nothing of it is in the file."""
        rest = memoryview(line + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if self._fsync:
                os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise StoreUnavailable("journal", "write_failed") from error
        self._size += len(line) + 1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
