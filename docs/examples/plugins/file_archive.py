"""A long-term store in a file: core's, in memory, and a line of JSON for every call that changes it.

The archiver repeats what was not acknowledged, so a line can be written after the call.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self, get_type_hints

from attrs import frozen

from taskcast_core import Registry, hookimpl, portable, wire
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore


class FileArchive(MemoryLongTermStore):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("ab+")

    async def __aenter__(self) -> Self:
        self._file.seek(0)
        for line in self._file:
            if line.endswith(b"\n"):
                verb, plain = wire.loads(line)
                given = (portable.of_plain(*each) for each in zip(plain, kinds(verb), strict=False))
                await getattr(super(), verb)(*given)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._file.close()


def kinds(verb: str) -> list[Any]:
    return [kind for name, kind in get_type_hints(getattr(MemoryLongTermStore, verb)).items() if name != "return"]


def kept(verb: str) -> Callable[..., Awaitable[Any]]:
    async def call(self: FileArchive, *given: Any) -> Any:
        done = await getattr(MemoryLongTermStore, verb)(self, *given)
        plain = [portable.to_plain(*each) for each in zip(given, kinds(verb), strict=False)]
        self._file.write(wire.dumps([verb, plain]) + b"\n")
        self._file.flush()
        return done

    return call


for _verb in ("write", "set_state", "trim", "delete", "write_audit"):
    setattr(FileArchive, _verb, kept(_verb))


@frozen
class FileOptions:
    path: Path


@hookimpl
def taskcast_long_term_stores(registry: Registry) -> None:
    registry.add("file", lambda options: FileArchive(options.path), options=FileOptions)
