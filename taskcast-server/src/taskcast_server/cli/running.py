"""One run of a program as a task: create, start, record, watch, stop, conclude."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import IO, Any

import click

from taskcast_core.values import frozen
from taskcast_server.cli.follow import DONE, follow
from taskcast_server.cli.http import Api, ApiError, Unreachable, task_path
from taskcast_server.cli.insist import Insistence
from taskcast_server.cli.lines import LineSplitter
from taskcast_server.cli.output import CliError, remark
from taskcast_server.cli.program import Ending, Program
from taskcast_server.cli.recorder import Recorder
from taskcast_server.cli.targets import Target

START_PATIENCE_S = 10.0
"""How long the server may be away at the beginning: nothing has run yet, so giving up costs nothing."""

_NOT_FOUND, _CONFLICT = 404, 409


@frozen
class Job:
    """What to run.

    Attributes:
        body: of the request that creates the task. grace_s: between SIGTERM and SIGKILL.
        patience_s: how long the server may be away before recording is given up; the program goes on.
    """

    command: tuple[str, ...]
    body: Mapping[str, Any]
    grace_s: float
    patience_s: float
    is_quiet: bool = False
    as_json: bool = False

    def tell(self, text: str, **facts: object) -> None:
        """A remark, unless quiet; ``facts`` are its form as JSON. On standard error: the rest is the program's."""
        if self.is_quiet:
            return
        if self.as_json:
            click.echo(json.dumps({"message": text, **facts}, ensure_ascii=False), err=True)
        else:
            remark(text)


async def run_job(target: Target, job: Job) -> int:
    """Run it to its end, and give the exit status.

    Raises:
        CliError: the task cannot be made; nothing has run.
    """
    async with Api(target) as api:
        patience_s = min(job.patience_s, START_PATIENCE_S)
        starting = Insistence(api, patience_s, lambda reason: job.tell(f"{reason}; retrying"))
        task = await starting.send("POST", "/tasks", job.body)
        await starting.send("PATCH", task_path(task["id"], "status"), {"status": "running"})
        job.tell(f"task {task['id']} (taskcast logs {task['id']})", taskId=task["id"], url=api.url)
        return await Run(api, job, task["id"]).go()


class Run:
    """The running program and the record of it."""

    def __init__(self, api: Api, job: Job, task_id: str) -> None:
        self._api, self._job, self._task_id = api, job, task_id
        self._insistence = Insistence(api, job.patience_s, lambda reason: job.tell(f"{reason}; retrying"))
        self._recorder = Recorder(self._post)
        self._is_interrupted = False
        self._has_task_ended = False
        self._program: Program | None = None
        self._concluding: asyncio.Task[None] | None = None

    async def go(self) -> int:
        """Start, record, conclude."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
                loop.add_signal_handler(number, self._interrupted, number)
        try:
            self._program = program = Program.start(self._job.command, self._environment())
        except CliError as error:
            remark(str(error))
            await self._conclude(_failure(f"EXIT_{error.exit_code}", str(error)))
            return error.exit_code
        if self._is_interrupted:
            self._stop(signal.SIGTERM)
        recording = asyncio.create_task(self._record())
        watching = asyncio.create_task(self._watch())
        pumping = asyncio.gather(
            self._pump(program.stdout(), "process.stdout", "info", sys.stdout.buffer),
            self._pump(program.stderr(), "process.stderr", "warn", sys.stderr.buffer),
        )
        ending = await program.wait()
        await self._clear_group()
        self._concluding = asyncio.create_task(self._finish(pumping, recording, ending))
        await asyncio.wait([self._concluding])
        for each in (watching, recording, pumping):
            each.cancel()
        await asyncio.gather(watching, recording, pumping, return_exceptions=True)
        if self._concluding.cancelled():
            remark(f"interrupted; the end of task {self._task_id} is not recorded")
        else:
            self._concluding.result()
        self._job.tell(ending.message, taskId=self._task_id, exitCode=ending.exit_status)
        return ending.exit_status

    # ── The program's output ──────────────────────────────────────────────────────────────────────────────────────

    async def _pump(self, pieces: AsyncIterator[bytes], type: str, level: str, ours: IO[bytes]) -> None:
        splitter = LineSplitter()
        is_open = True
        async for piece in pieces:
            if is_open:
                is_open = await asyncio.to_thread(_pass_on, ours, piece)
            for line in splitter.feed(piece):
                await self._put(type, level, line.text, continues=line.continues)
        for line in splitter.end():
            await self._put(type, level, line.text, continues=line.continues)

    async def _put(self, type: str, level: str, text: str, *, continues: bool) -> None:
        data = {"line": text, "continues": True} if continues else {"line": text}
        await self._recorder.put({"type": type, "level": level, "data": data}, len(text))

    async def _post(self, batch: list[dict[str, Any]]) -> None:
        await self._insistence.send("POST", task_path(self._task_id, "events"), batch)

    async def _record(self) -> None:
        try:
            await self._recorder.run()
        except ApiError as error:
            if error.code == "task_ended":
                self._task_ended()
            else:
                remark(f"no longer recording the program's output: {error}")
        except Unreachable as error:
            remark(f"no longer recording the program's output: {error}")

    # ── Stopping ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        """Notice when the task is ended by somebody else."""
        frames = follow(self._api, task_path(self._task_id, "events"), {"types": "taskcast:status"}, must_begin=False)
        try:
            async for frame in frames:
                if frame.event == DONE:
                    self._task_ended()
        except (ApiError, Unreachable) as error:
            # Recording has its own patience, and tells what is wrong; without event:subscribe it tells of the end, too.
            if isinstance(error, ApiError) and error.status != _NOT_FOUND:
                self._job.tell(f"cannot watch the task for a cancellation: {error}")

    def _task_ended(self) -> None:
        if self._has_task_ended:
            return
        self._has_task_ended = True
        if self._concluding is None:
            self._job.tell("the task was ended elsewhere; stopping the program")
            self._stop(signal.SIGTERM)

    def _interrupted(self, number: int) -> None:
        """Ctrl-C and the like: once asks the program to end, twice does not ask. Later, it is we who end."""
        if self._concluding is not None:
            self._concluding.cancel()
        elif self._is_interrupted and self._program is not None:
            self._program.signal(signal.SIGKILL)
        else:
            self._is_interrupted = True
            self._stop(number)

    def _stop(self, number: int) -> None:
        if self._program is None:  # it will be told as soon as it has been started
            return
        self._program.signal(number)
        asyncio.get_running_loop().call_later(self._job.grace_s, self._kill)

    def _kill(self) -> None:
        if self._program is not None and self._concluding is None:
            self._program.signal(signal.SIGKILL)

    async def _clear_group(self) -> None:
        """A program that was stopped takes its children with it; the timer of `_stop` sees to the stubborn ones."""
        if (self._is_interrupted or self._has_task_ended) and self._program is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._job.grace_s + 1.0):
                    await self._program.group_gone()

    # ── The end ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self, pumping: asyncio.Future[Any], recording: asyncio.Task[None], ending: Ending) -> None:
        await pumping
        self._recorder.close()
        await recording
        if self._has_task_ended:
            return
        if self._is_interrupted:
            await self._conclude({"status": "cancelled"})
        elif ending.code == 0:
            await self._conclude({"status": "completed", "result": {"exitCode": 0}})
        else:
            await self._conclude(_failure(ending.name, ending.message))

    async def _conclude(self, body: Mapping[str, Any]) -> None:
        try:
            await self._insistence.send("PATCH", task_path(self._task_id, "status"), body)
        except ApiError as error:
            if error.status != _CONFLICT or not self._has_task_ended:
                remark(f"the end of task {self._task_id} could not be recorded: {error}")
        except Unreachable as error:
            remark(f"the end of task {self._task_id} could not be recorded: {error}")

    def _environment(self) -> dict[str, str]:
        return {"PYTHONUNBUFFERED": "1", **os.environ, "TASKCAST_TASK_ID": self._task_id}


def _failure(code: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "error": {"code": code, "message": message}}


def _pass_on(ours: IO[bytes], piece: bytes) -> bool:
    """Write to our own output; False when nobody reads it any more."""
    try:
        ours.write(piece)
        ours.flush()
    except OSError:
        return False
    return True
