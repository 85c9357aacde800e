"""Two servers on one event loop in one process, which differ in nothing but whether they count.

    python -m tests.bench.two_servers counting plain

Each is what `taskcast start` makes of its configuration, in the order given; both keep tasks in memory. Prints one line
of JSON with their ports, and that of ``control``: whoever sends a byte there is told the CPU time of this process in
nanoseconds, once the loop has done what came before. Runs until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import uvicorn
import uvloop

from taskcast_server.app import assemble_app
from taskcast_server.cli.loading import load
from taskcast_server.cli.log_setup import set_up_logging
from taskcast_server.cycles import look_less_often_for_cycles
from taskcast_server.options import LimitOptions
from taskcast_server.serve import uvicorn_config


async def started(directory: Path, *, is_counting: bool) -> uvicorn.Server:
    """Start a server."""
    file = directory / f"{is_counting}.yaml"
    file.write_text(f"storage: memory\nlogLevel: warn\nmetrics: {{enabled: {str(is_counting).lower()}}}\n")
    loaded = load(file)
    set_up_logging(loaded.config.core.log_level, as_json=False)
    app = assemble_app(loaded.config, loaded.plugins)
    config = uvicorn_config(app, loaded.config.section(LimitOptions))
    config.port, config.timeout_keep_alive = 0, 3600  # its connections wait while the other one works
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    return server


async def tell_cpu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The control connection."""
    while await reader.read(1):
        await asyncio.sleep(0)  # what the requests before left to be called comes first
        writer.write(b"%d\n" % time.process_time_ns())


async def main(order: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        servers = {name: await started(Path(directory), is_counting=name == "counting") for name in order}
    running = [asyncio.create_task(each.main_loop()) for each in servers.values()]
    ports = {name: each.servers[0].sockets[0].getsockname()[1] for name, each in servers.items()}
    control = await asyncio.start_server(tell_cpu, "127.0.0.1", 0)
    ports["control"] = control.sockets[0].getsockname()[1]
    look_less_often_for_cycles()
    print(json.dumps(ports), flush=True)
    await asyncio.gather(*running)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
