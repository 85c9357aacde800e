"""The load generators: two small C programs that speak the public wire, built when they are first needed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "bench"
RUN_S = 300.0

STAT = Path("/proc/stat")
_STEAL = 8

Row = dict[str, Any]
"""What one run of a generator printed; and ``stolen``, the part of the processors' time that others took meanwhile."""


class LoadError(Exception):
    """A generator could not be built, or did not get what it had been promised."""


def cores() -> tuple[list[str], list[str]]:
    """How to begin a command so that it runs on the servers' core, and on the generators' one; empty with one core."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2 or shutil.which("taskset") is None:
        return [], []
    return ["taskset", "-c", str(usable[0])], ["taskset", "-c", str(usable[1])]


def generator(name: str) -> Path:
    """The program ``name``, compiled unless it is there already.

    Raises:
        LoadError: there is no C compiler, or it refuses.
    """
    sources = [HERE / f"{name}.c", HERE / "proc.h"]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:12]
    program = BUILD / f"{name}-{digest}"
    if not program.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise LoadError("the load generators are C programs: install a C compiler (cc, gcc or clang)")
        BUILD.mkdir(parents=True, exist_ok=True)
        draft = program.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O2", "-pthread", "-o", str(draft), str(sources[0])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadError(f"{name} does not compile: {done.stderr}")
        draft.replace(program)
    return program


def stolen_s() -> float:
    """The time for which this machine's host has let its processors wait for others; 0 where nobody tells."""
    try:
        return int(STAT.read_text().split(maxsplit=_STEAL + 1)[_STEAL]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def generate(name: str, arguments: Sequence[str | int | float]) -> Row:
    """One run of a generator; what it printed.

    Raises:
        LoadError: it failed, or not everything was delivered.
    """
    command = [*cores()[1], str(generator(name)), *map(str, arguments)]
    began, stolen_before_s = time.monotonic(), stolen_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S)
    stolen = (stolen_s() - stolen_before_s) / (time.monotonic() - began) / (os.cpu_count() or 1)
    if done.returncode:
        raise LoadError(f"{name} {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stdout}{done.stderr}")
    row: Row = json.loads(done.stdout)
    return {**row, "stolen": stolen}


def readers(
    port: int,
    pid: int,
    *,
    subs: int,
    events: int,
    tasks: int = 1,
    batch: int = 1,
    rate: float = 0,
    closed: bool = False,
    replay: bool = False,
    publish_port: int = 0,
    warm_up: int = 0,
) -> Row:
    """Publish ``events`` to ``tasks`` with ``subs`` readers; see the options of ``sse_bench``.

    ``warm_up``: so many of the events do not count.
    """
    flags = [flag for flag, wanted in (("--closed", closed), ("--replay", replay)) if wanted]
    return generate(
        "sse_bench",
        [
            "--url", f"http://127.0.0.1:{port}", "--pid", pid, "--subs", subs, "--tasks", tasks, "--events", events,
            "--batch", batch, "--rate", rate, "--pub-port", publish_port, "--warm-up", warm_up,
            "--json", *flags,
        ],
    )  # fmt: skip


def requests(
    port: int,
    pid: int,
    path: str,
    body: bytes,
    *,
    conns: int = 64,
    seconds: float = 2.0,
    warm_up: float = 0.5,
    most: int = 0,
    type: str = "application/json",
) -> Row:
    """Repeat one request on ``conns`` connections for some seconds, or until there were ``most`` replies."""
    file = BUILD / f"body-{os.getpid()}"
    BUILD.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    try:
        return generate(
            "http_bench",
            [
                "--port", port, "--pid", pid, "--path", path, "--body", str(file), "--type", type, "--conns", conns,
                "--seconds", seconds, "--warm-up", warm_up, "--most", most,
            ],
        )  # fmt: skip
    finally:
        file.unlink()
