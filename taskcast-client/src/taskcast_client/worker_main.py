"""``taskcast worker module:worker``, or ``taskcast-worker`` where there is no server installed."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from taskcast_client.errors import ClientError
from taskcast_client.worker import TaskcastWorker


class NoWorker(Exception):
    """There is no worker under this name."""


def find_worker(name: str) -> TaskcastWorker:
    """The worker that ``module:attribute`` names; the working directory is searched first.

    Raises:
        NoWorker: there is none.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise NoWorker(f"expected module:attribute, not {name!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise NoWorker(f"cannot load {name}: {error}") from error
    if not isinstance(found, TaskcastWorker):
        raise NoWorker(f"{name} is a {type(found).__name__}, not a TaskcastWorker")
    return found


async def run_until_signal(worker: TaskcastWorker) -> None:
    """Run a worker; SIGTERM and SIGINT let it drain, a second one ends it at once."""
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(worker.run())
    asked: list[int] = []

    def on_signal(number: int) -> None:
        asked.append(number)
        if len(asked) == 1:
            worker.stop()
        else:
            running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await running
    except asyncio.CancelledError:
        if len(asked) < 2:
            raise


def run(worker: str, verbose: bool = False) -> None:
    """Run the TaskcastWorker at MODULE:ATTRIBUTE until it is told to stop; it then lets end what is under way.

    Exit status 1: the server takes no such worker; 2: there is none to run.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    try:
        asyncio.run(run_until_signal(find_worker(worker)))
    except (NoWorker, ClientError) as error:
        sys.stderr.write(f"taskcast worker: {error}\n")
        raise SystemExit(2 if isinstance(error, NoWorker) else 1) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of ``taskcast-worker``."""
    parser = argparse.ArgumentParser(prog="taskcast-worker", description="Run a Taskcast worker.")
    parser.add_argument("worker", help="module:attribute of a TaskcastWorker")
    parser.add_argument("--verbose", action="store_true", help="log every task")
    given = parser.parse_args(arguments)
    run(given.worker, given.verbose)


if __name__ == "__main__":
    main()
