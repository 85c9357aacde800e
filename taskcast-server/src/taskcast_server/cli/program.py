"""A program that runs in a session of its own: its output through pipes, signals for its whole process group."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import IO

from taskcast_core.values import frozen
from taskcast_server.cli.output import CliError

PIECE_BYTES = 64 << 10
LINGER_S = 1.0
"""After the program's end its output counts as ended when nothing comes for so long: a child may hold the pipe."""
_POLL_S = 0.05


@frozen
class Ending:
    """How a program ended: its exit status, negative for a signal."""

    code: int

    @property
    def exit_status(self) -> int:
        """As a shell tells it: 128 + the number of the signal."""
        return self.code if self.code >= 0 else 128 - self.code

    @property
    def name(self) -> str:
        """``EXIT_3``, or the signal's name."""
        if self.code >= 0:
            return f"EXIT_{self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"SIGNAL_{-self.code}"

    @property
    def message(self) -> str:
        """A sentence for people."""
        if self.code >= 0:
            return f"the program ended with exit status {self.code}"
        return f"the program was ended by {self.name}"


class Program:
    """A running program. Its standard input is ours; the terminal's Ctrl-C reaches it only through `signal`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._has_ended = asyncio.Event()
        self.ending: Ending | None = None

    @classmethod
    def start(cls, command: Sequence[str], env: dict[str, str]) -> Program:
        """Start it.

        Raises:
            CliError: there is no such program (exit code 127), or it cannot be run (126).
        """
        try:
            process = subprocess.Popen(  # noqa: S603 - running what the user names is what this is for
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True, bufsize=0
            )
        except FileNotFoundError as error:
            raise CliError(f"{command[0]}: no such program", 127) from error
        except (OSError, ValueError) as error:
            raise CliError(f"{command[0]} cannot be run: {error}", 126) from error
        return cls(process)

    async def wait(self) -> Ending:
        """Wait for the end of the program itself; others of its group may go on."""
        code = await asyncio.to_thread(self._process.wait)
        self.ending = Ending(code)
        self._has_ended.set()
        return self.ending

    def stdout(self) -> AsyncIterator[bytes]:
        """Its standard output, piece by piece."""
        return self._pieces(self._process.stdout)

    def stderr(self) -> AsyncIterator[bytes]:
        """Its standard error, piece by piece."""
        return self._pieces(self._process.stderr)

    def signal(self, number: int) -> None:
        """Send a signal to all of its group; nothing happens when nobody is left."""
        with suppress(ProcessLookupError, PermissionError):  # the group is gone, or what is left of it is about to be
            os.killpg(self._process.pid, number)

    async def group_gone(self) -> None:
        """Wait until no process of its group is left."""
        while True:
            try:
                os.killpg(self._process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            await asyncio.sleep(_POLL_S)

    async def _pieces(self, pipe: IO[bytes] | None) -> AsyncIterator[bytes]:
        assert pipe is not None, "both are pipes"
        reader = asyncio.StreamReader(limit=PIECE_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while piece := await self._piece(reader):
                yield piece
        finally:
            transport.close()

    async def _piece(self, reader: asyncio.StreamReader) -> bytes:
        reading = asyncio.ensure_future(reader.read(PIECE_BYTES))
        ended = asyncio.ensure_future(self._has_ended.wait())
        try:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            async with asyncio.timeout(LINGER_S):
                return await reading
        except TimeoutError:
            return b""
        finally:
            reading.cancel()
            ended.cancel()
