"""`make demo`: a streamed answer, two readers, a cut, a killed server; and all three texts are equal in the end.

    python demo.py [--short]

A server on SQLite is started in a temporary folder. A pretended model thinks, answers and reports its progress, in
three series of one task. Reader A follows from the beginning. Reader B goes away in the middle and comes back. Then
the server is killed (kill -9) and started again. The exit status is 0 only if both readers, and a third that comes
after the end, hold exactly what the model has said, each event once.
"""

import asyncio
import random
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from taskcast_client import RetryPolicy, TaskcastClient, TaskRun

SHORT = "--short" in sys.argv
PAUSE_S = 0.002 if SHORT else 0.05
THOUGHT = "The user wants a story. It should be short, begin at night, and end well. No dragons this time. " * 2
ANSWER = (
    "It was late when the lighthouse keeper noticed that the light had begun to blink in a rhythm of its own. "
    "She counted: three long, one short. Nobody had taught it that. So she sat down on the stairs, and answered "
    "with her lantern, three short, one long; and far out, where no ship had been for weeks, something replied. "
) * (1 if SHORT else 2)  # fmt: skip
CONFIG = "logLevel: error\nadapters: {shortTermStore: {provider: sqlite, path: demo.db}}\n"
PATIENT = RetryPolicy(attempts=100, longest_s=0.5)  # the server is away for some seconds
began = time.monotonic()


def tell(who: str, what: str) -> None:
    colour = {"A": "\033[36m", "B": "\033[33m", "server": "\033[31m", "model": "\033[32m"}.get(who, "")
    line = f"{time.monotonic() - began:6.1f} s  {who:<7} {what}"
    print(f"{colour}{line}\033[0m" if sys.stdout.isatty() else line, flush=True)


class Server:
    """`taskcast start` on a free port; killing it and starting it again keeps port and file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "taskcast.config.yaml").write_text(CONFIG)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        program = Path(sys.executable).with_name("taskcast")
        with (self.folder / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                program, "start", "-p", str(self.port), cwd=self.folder, stdout=log, stderr=log
            )
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            while True:
                try:
                    if (await http.get(f"{self.url}/health/ready")).is_success:
                        break
                except httpx.TransportError:
                    if self.process.returncode is not None:
                        sys.exit("the server has ended: " + (self.folder / "server.log").read_text())
                    await asyncio.sleep(0.05)
        tell("server", f"serves at {self.url}, process {self.process.pid}")

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()
        tell("server", f"process {self.process.pid} was killed with signal 9")


class Reader:
    """Somebody who follows the task, and puts the texts of its series together."""

    def __init__(self, name: str, url: str, task_id: str) -> None:
        self.name, self.url, self.task_id = name, url, task_id
        self.texts: dict[str, str] = {}
        self.seen: list[int] = []
        self.last: str | None = None
        self.progress = 0
        self.is_reading = asyncio.Event()

    async def follow(self, until: int | None = None) -> None:
        """Read to the end, or until so many characters of the answer have come."""
        begin = "from the beginning" if self.last is None else f"after event {self.last}"
        tell(self.name, f"connects, {begin}")
        told = 0
        async with TaskcastClient(self.url, retry=PATIENT) as client:
            stream = client.subscribe(self.task_id, since=self.last)
            async for event in stream:
                self.last = event.event_id
                self.seen.append(event.raw_index)
                self.is_reading.set()
                if event.series_mode == "accumulate" and event.series_id:
                    before = "" if event.series_snapshot else self.texts.get(event.series_id, "")
                    self.texts[event.series_id] = before + event.data["delta"]
                elif event.series_id == "progress":
                    self.progress = event.data["percent"]
                answer = self.texts.get("answer", "")
                if len(answer) >= told + 110:
                    told = len(answer)
                    tell(self.name, f"{self.progress:3} % …{answer[-60:]}")
                if until is not None and len(answer) >= until:
                    await stream.aclose()
                    tell(self.name, f"is cut off at {len(answer)} characters")
                    return
        tell(self.name, f"has reached the end, {stream.status}: {len(self.texts.get('answer', ''))} characters")


async def speak(task: TaskRun) -> AsyncIterator[int]:
    """What the model says; yields how many characters of the answer are out."""
    thinking, answer = task.text("thinking", type="llm.thinking"), task.text("answer")
    await task.log("the model has been loaded")
    for piece in pieces(THOUGHT):
        await thinking.write(piece)
        await asyncio.sleep(PAUSE_S)
    done = 0
    for piece in pieces(ANSWER):
        await answer.write(piece)
        done += len(piece)
        percent = {"percent": 100 * done // len(ANSWER)}
        await task.emit("progress", percent, series_id="progress", series_mode="latest")
        await asyncio.sleep(PAUSE_S)
        yield done


def pieces(text: str) -> list[str]:
    """Cut a text as models do."""
    source, out = random.Random(7), []
    while text:
        size = source.randint(1, 8)
        out.append(text[:size])
        text = text[size:]
    return out


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Server]:
    server = Server(folder)
    await server.start()
    try:
        yield server
    finally:
        if server.process.returncode is None:
            server.process.terminate()
            await server.process.wait()


async def perform(server: Server) -> list[str]:
    """The whole play: what went wrong."""
    async with (
        TaskcastClient(server.url, retry=PATIENT) as client,
        asyncio.TaskGroup() as group,  # ends after the task, when both readers have ended
        client.task(type="llm.chat", params={"prompt": "Tell me a story"}) as task,
    ):
        tell("model", f"begins task {task.id}")
        a, b = Reader("A", server.url, task.id), Reader("B", server.url, task.id)
        group.create_task(a.follow())
        cut = group.create_task(b.follow(until=len(ANSWER) // 4))
        was_killed = False
        async for done in speak(task):
            if not was_killed and done > len(ANSWER) // 2:
                was_killed = True
                async with asyncio.timeout(60):
                    await cut
                    b.is_reading.clear()
                    group.create_task(b.follow())
                    await b.is_reading.wait()
                await server.kill()
                await server.start()
        tell("model", "has said everything")
    async with TaskcastClient(server.url, retry=PATIENT) as client:
        late = Reader("late", server.url, task.id)
        await late.follow()
        status = (await client.get_task(task.id)).status
    return [*judge(a), *judge(b), *judge(late), *([] if status == "completed" else [f"the task is {status}"])]


def judge(reader: Reader) -> list[str]:
    """What a reader has wrong."""
    wrong = [
        f"{reader.name}: the text of {name} is another"
        for name, text in (("thinking", THOUGHT), ("answer", ANSWER))
        if reader.texts.get(name) != text
    ]
    if len(set(reader.seen)) != len(reader.seen) or reader.seen != sorted(reader.seen):
        wrong.append(f"{reader.name}: events came twice, or out of order")
    return wrong


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="taskcast-demo-") as folder:
        async with running(Path(folder)) as server:
            wrong = await perform(server)
    print()
    print("\n".join(wrong) or f"A, B and a late reader hold the same {len(ANSWER)} characters, each event once.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
