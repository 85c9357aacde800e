"""``taskcast export`` and ``taskcast import``: whole tasks as JSON, one archive per line, passed on as they come."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, Annotated

from taskcast_server.cli.commands import argument, option
from taskcast_server.cli.output import CliError, remark, tell, tell_json
from taskcast_server.cli.remote import Remote, with_remote

_PART = 64 << 10
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]]', re.DOTALL)


@with_remote
def export_archives(
    remote: Remote,
    task_ids: Annotated[list[str], argument(metavar="ID...", help="Ids of the tasks.")],
    file: Annotated[Path | None, option("--file", "-f", help="Write here instead of to standard output.")] = None,
    secrets: Annotated[bool, option("--secrets", help="With webhook secrets; needs task:manage.")] = False,
) -> None:
    """Write tasks with their whole history, one JSON document per line."""
    from taskcast_server.cli.http import task_path

    params = {"secrets": "include"} if secrets else None

    async def fetch(target: IO[bytes]) -> None:
        async with remote.api() as api:
            for each in task_ids:
                async with aclosing(api.download(task_path(each, "archive"), params)) as parts:
                    async for part in parts:
                        target.write(part)
                target.write(b"\n")

    if file is None:
        asyncio.run(fetch(sys.stdout.buffer))
        sys.stdout.buffer.flush()
        return
    with _written(file, is_secret=secrets) as target:
        asyncio.run(fetch(target))
    remote.tell({"ok": True, "file": str(file), "tasks": len(task_ids)}, f"Exported {len(task_ids)} task(s) to {file}")


@with_remote
def import_archives(
    remote: Remote,
    file: Annotated[Path, argument(help="What `taskcast export` has written; `-` is standard input.")],
    overwrite: Annotated[bool, option("--overwrite", help="Replace tasks that are there.")] = False,
) -> None:
    """Read tasks into the server, each whole or not at all; stops at the first that it refuses."""
    if str(file) == "-":
        asyncio.run(_send(remote, Documents(sys.stdin.buffer), overwrite=overwrite))
    else:
        with file.open("rb") as source:
            asyncio.run(_send(remote, Documents(source), overwrite=overwrite))


async def _send(remote: Remote, documents: Documents, *, overwrite: bool) -> None:
    done = 0
    async with remote.api() as api:
        while documents.has_more():
            try:
                result = await api.upload("/tasks/import", _request(documents.next(), overwrite=overwrite))
            except CliError:
                remark(f"{done} task(s) were imported before")
                raise
            done += 1
            if remote.is_json:
                tell_json(result)
            else:
                replaced = ", replaced the one that was there" if result.get("overwritten") else ""
                tell(f"Imported {result['taskId']} ({result['eventCount']} events{replaced})")
    if not done:
        raise CliError("the file is empty")


async def _request(document: Iterator[bytes], *, overwrite: bool) -> AsyncGenerator[bytes]:
    yield b'{"archive":'
    for part in document:
        yield part
    yield b',"overwrite":true}' if overwrite else b"}"


class Documents:
    """JSON objects that stand one behind the other in a file, however they are laid out, each in parts."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer = b""

    def has_more(self) -> bool:
        """Whether another one begins.

        Raises:
            CliError: something else does.
        """
        self._buffer = self._buffer.lstrip()
        while not self._buffer:
            part = self._file.read(_PART)
            if not part:
                return False
            self._buffer = part.lstrip()
        if not self._buffer.startswith(b"{"):
            raise CliError("the file is neither one archive nor one per line")
        return True

    def next(self) -> Iterator[bytes]:
        """The document that begins here; it has to be read to its end before anything else.

        Raises:
            CliError: the file ends within it.
        """
        at = depth = 0
        while True:
            token = _TOKEN.search(self._buffer, at)
            text = token.group() if token else b""
            if token is None or text == b'"':  # the rest of a string may still be to come
                sure = token.start() if token else len(self._buffer)
                yield self._buffer[:sure]
                more = self._file.read(_PART)
                if not more:
                    raise CliError("the file ends within an archive")
                self._buffer, at = self._buffer[sure:] + more, 0
                continue
            at = token.end()
            depth += (text in (b"{", b"[")) - (text in (b"}", b"]"))
            if not depth:
                yield self._buffer[:at]
                self._buffer = self._buffer[at:]
                return


@contextmanager
def _written(path: Path, *, is_secret: bool) -> Iterator[IO[bytes]]:
    """A file that is there when all of it has been written."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as target:
            if is_secret:
                beside.chmod(0o600)
            yield target
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
