"""`taskcast run`, `logs` and `tail` against a real server: live, cancelled, cut off."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.eventually import eventually_sync
from tests.fixtures.processes import private_directory
from tests.server.cli_programs import TASKCAST, TaskcastServer, own_environment, taskcast


@pytest.fixture(scope="module")
def server() -> Iterator[TaskcastServer]:
    with private_directory("taskcast-run-") as directory:
        server = TaskcastServer(directory)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def own_server() -> Iterator[TaskcastServer]:
    """A server that a test may kill."""
    with private_directory("taskcast-run-") as directory:
        server = TaskcastServer(directory)
        server.start()
        yield server
        server.stop()


class Terminal:
    """A program in a pseudo-terminal of its own, and what it has written there."""

    def __init__(self, command: list[str | Path], env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        # A suite that runs in the background has been told to ignore Ctrl-C; a program in a terminal is not.
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        os.close(slave)
        self.text = ""

    def read(self) -> str:
        """All that has been written until now."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # the other side is closed: the program has ended
                break
            if not piece:
                break
            self.text += piece.decode(errors="replace")
        return self.text

    def wait_for(self, text: str, within_s: float = 20.0) -> None:
        def appears() -> bool:
            assert text in self.read(), self.text
            return True

        eventually_sync(appears, within_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._master)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Any]:
    opened: list[Terminal] = []

    def open_terminal(server: TaskcastServer, *arguments: str) -> Terminal:
        env = own_environment(tmp_path, TASKCAST_URL=server.url)
        opened.append(Terminal([TASKCAST, *arguments], env))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.close()


def run(server: TaskcastServer, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return taskcast("run", "--url", server.url, *arguments, home=home)


def status(server: TaskcastServer, task_id: str) -> str:
    found: str = server.request("GET", f"/tasks/{task_id}")["status"]
    return found


def until(server: TaskcastServer, task_id: str, wanted: str) -> None:
    def reached() -> bool:
        return status(server, task_id) == wanted

    eventually_sync(reached, 20)


def lines(server: TaskcastServer, task_id: str, type: str = "process.stdout") -> list[str]:
    return [each["data"]["line"] for each in server.history(task_id) if each["type"] == type]


def wait_for_line(server: TaskcastServer, task_id: str, line: str) -> None:
    def is_there() -> bool:
        try:
            return line in lines(server, task_id)
        except OSError:  # not created yet
            return False

    eventually_sync(is_there, 20)


def test_a_program_becomes_a_task(server: TaskcastServer, tmp_path: Path) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); print('no end', end='')"
    done = run(server, tmp_path, "--id", "whole", "--type", "build", "--tag", "ci", "--", sys.executable, "-c", program)
    assert (done.returncode, done.stdout) == (0, "out\nno end")
    assert done.stderr.splitlines() == [
        "[taskcast] task whole (taskcast logs whole)", "err", "[taskcast] the program ended with exit status 0",
    ]  # fmt: skip
    task = server.request("GET", "/tasks/whole")
    assert (task["status"], task["type"], task["tags"], task["result"]) == (
        "completed", "build", ["ci"], {"exitCode": 0},
    )  # fmt: skip
    assert task["params"]["command"][0] == sys.executable
    assert lines(server, "whole") == ["out", "no end"]
    assert [(each["level"], each["data"]) for each in server.history("whole") if each["type"] == "process.stderr"] == [
        ("warn", {"line": "err"})
    ]


@pytest.mark.parametrize(
    ("program", "exit_status", "code"),
    [
        ("raise SystemExit(3)", 3, "EXIT_3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + 9, "SIGKILL"),
    ],
)
def test_a_failing_program_fails_the_task(
    server: TaskcastServer, tmp_path: Path, program: str, exit_status: int, code: str
) -> None:
    done = run(server, tmp_path, "--id", code, "--quiet", "--", sys.executable, "-c", program)
    assert (done.returncode, done.stderr) == (exit_status, "")
    task = server.request("GET", f"/tasks/{code}")
    assert (task["status"], task["error"]["code"]) == ("failed", code)


def test_a_program_that_is_not_there(server: TaskcastServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, "--id", "missing", "--", "no-such-program")
    assert (done.returncode, status(server, "missing")) == (127, "failed")
    assert "no-such-program: no such program" in done.stderr


def test_without_a_task_nothing_runs(server: TaskcastServer, tmp_path: Path) -> None:
    server.request("POST", "/tasks", {"id": "taken"})
    marker = tmp_path / "ran"
    done = run(server, tmp_path, "--id", "taken", "--", "touch", str(marker))
    assert (done.returncode, done.stderr) == (125, "[taskcast] Task already exists: taken\n")
    assert not marker.exists()


def test_much_output_keeps_its_order_and_its_bytes(server: TaskcastServer, tmp_path: Path) -> None:
    program = "import sys\nfor n in range(20_000): sys.stdout.write(f'{n} {n * \"x\" if n == 19_999 else 1}\\n')"
    done = run(server, tmp_path, "--id", "much", "--quiet", "--", sys.executable, "-c", program)
    recorded = server.history("much")
    text = "".join(
        each["data"]["line"] + ("" if each["data"].get("continues") else "\n")
        for each in recorded
        if each["type"] == "process.stdout"
    )
    assert done.returncode == 0
    assert text == done.stdout
    assert max(len(each["data"].get("line", "")) for each in recorded) <= 16_384


def test_output_that_is_no_utf8_is_recorded_and_passed_on(server: TaskcastServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [TASKCAST, "run", "--url", server.url, "--id", "bytes", "-q", "--", "printf", r"a\377b\nc\000d"],
        capture_output=True,
        timeout=60,
        check=True,
        env=own_environment(tmp_path),
    )
    assert done.stdout == b"a\xffb\nc\0d"
    assert lines(server, "bytes") == ["a\ufffdb", "c\0d"]


def test_the_program_reads_our_input_and_knows_its_task(server: TaskcastServer, tmp_path: Path) -> None:
    command = ["--", "sh", "-c", 'read line; echo "$line $TASKCAST_TASK_ID"']
    done = taskcast("run", "--url", server.url, "--id", "input", "-q", *command, home=tmp_path, stdin="hello\n")
    assert done.stdout == "hello input\n"


def test_a_child_that_keeps_the_pipe_does_not_keep_the_task(server: TaskcastServer, tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(server, tmp_path, "--id", "parent", "-q", "--", "sh", "-c", "sleep 30 & echo started")
    assert (done.returncode, done.stdout, status(server, "parent")) == (0, "started\n", "completed")
    assert time.monotonic() - begun < 20


def test_a_program_streams_live_into_the_logs_in_another_terminal(server: TaskcastServer, terminals: Any) -> None:
    program = "input(); print('one'); input(); print('two'); input()"
    running = terminals(server, "run", "--id", "live", "--", sys.executable, "-c", program)
    running.wait_for("[taskcast] task live")
    logs = terminals(server, "logs", "live")
    os.write(running._master, b"\n")
    logs.wait_for('process.stdout   info  {"line":"one"}')
    assert "two" not in logs.read()
    os.write(running._master, b"\n")
    logs.wait_for('process.stdout   info  {"line":"two"}')
    os.write(running._master, b"\n")
    logs.wait_for("[DONE] completed")
    assert logs.process.wait(20) == 0
    assert running.process.wait(20) == 0


def test_ctrl_c_reaches_the_program_and_cancels_the_task(server: TaskcastServer, terminals: Any) -> None:
    program = "import time\ntry:\n  print('ready'); time.sleep(60)\nexcept KeyboardInterrupt: print('bye'); exit(7)"
    running = terminals(server, "run", "--id", "interrupted", "--", sys.executable, "-c", program)
    running.wait_for("ready")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 7
    assert status(server, "interrupted") == "cancelled"
    assert lines(server, "interrupted") == ["ready", "bye"]


def test_cancelling_the_task_stops_the_program_and_its_children(
    server: TaskcastServer, tmp_path: Path, terminals: Any
) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> {pids}; while :; do sleep 1; done' & echo $$ >> {pids}; "
    script += "echo ready; while :; do sleep 1; done"
    running = terminals(server, "run", "--id", "stubborn", "--grace", "1", "--", "sh", "-c", script)
    running.wait_for("ready")
    eventually_sync(lambda: pids.exists() and len(pids.read_text().split()) == 2, 10)
    done = taskcast("tasks", "cancel", "stubborn", "--url", server.url, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "Cancelled stubborn\n")
    assert running.process.wait(20) == 128 + signal.SIGKILL
    assert "the task was ended elsewhere" in running.read()
    for pid in pids.read_text().split():
        eventually_sync(lambda pid=pid: not _is_running(int(pid)), 10)
    assert status(server, "stubborn") == "cancelled"


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_polite_program_is_asked_first(server: TaskcastServer, terminals: Any) -> None:
    script = "trap 'echo asked; exit 4' TERM; echo ready; while :; do sleep 0.1; done"
    running = terminals(server, "run", "--id", "polite", "--", "sh", "-c", script)
    running.wait_for("ready")
    server.request("PATCH", "/tasks/polite/status", {"status": "cancelled"})
    assert running.process.wait(20) == 4
    running.wait_for("asked")


def test_a_killed_server_that_comes_back_has_every_line(
    own_server: TaskcastServer, tmp_path: Path, terminals: Any
) -> None:
    stop = tmp_path / "stop"
    program = (
        "import itertools, os, time\nfor n in itertools.count():\n  print(n); time.sleep(0.02)\n"
        f"  if os.path.exists({str(stop)!r}): break"
    )
    running = terminals(own_server, "run", "--id", "survivor", "--", sys.executable, "-c", program)
    wait_for_line(own_server, "survivor", "20")
    logs = terminals(own_server, "logs", "survivor")
    logs.wait_for('{"line":"30"}')
    for outage in (1, 2):
        count = len(lines(own_server, "survivor"))
        wait_for_line(own_server, "survivor", str(count + 20))
        own_server.kill()
        eventually_sync(lambda outage=outage: running.read().count("; retrying") >= outage, 20)
        own_server.start()
    wait_for_line(own_server, "survivor", str(len(lines(own_server, "survivor")) + 20))
    stop.touch()
    assert running.process.wait(60) == 0
    until(own_server, "survivor", "completed")
    recorded = lines(own_server, "survivor")
    assert recorded == [str(n) for n in range(len(recorded))]
    assert running.read().count(f"{len(recorded) - 1}\r\n") == 1, "the last line printed is the last one recorded"
    logs.wait_for("[DONE] completed")
    assert logs.process.wait(20) == 0
    shown = [json.loads(line.partition("info  ")[2])["line"] for line in logs.text.splitlines() if "stdout" in line]
    assert shown == recorded


def test_an_impatient_run_goes_on_without_its_server(own_server: TaskcastServer, terminals: Any) -> None:
    program = "input(); print('alone'); exit(5)"
    command = ("run", "--id", "alone", "--patience", "1", "--", sys.executable, "-c", program)
    running = terminals(own_server, *command)
    running.wait_for("[taskcast] task alone")
    own_server.kill()
    os.write(running._master, b"\n")
    running.wait_for("alone\r\n")
    running.wait_for("no longer recording")
    assert running.process.wait(30) == 5


def test_the_end_as_an_exit_status(server: TaskcastServer, tmp_path: Path) -> None:
    run(server, tmp_path, "--id", "bad", "-q", "--", "false")
    plain = taskcast("logs", "bad", "--url", server.url, home=tmp_path)
    strict = taskcast("logs", "bad", "--exit-code", "--output", "json", "--url", server.url, home=tmp_path)
    assert (plain.returncode, strict.returncode) == (0, 1)
    *events, last = map(json.loads, strict.stdout.splitlines())
    assert last == {"done": True, "reason": "failed"}
    assert [each["type"] for each in events] == ["taskcast:status", "taskcast:status"]


def test_logs_filter(server: TaskcastServer, tmp_path: Path) -> None:
    run(server, tmp_path, "--id", "filtered", "-q", "--", "sh", "-c", "echo out; echo err >&2")
    done = taskcast("logs", "filtered", "--types", "process.*", "--levels", "warn", "--url", server.url, home=tmp_path)
    first, last = done.stdout.splitlines()
    assert first.endswith('] process.stderr   warn  {"line":"err"}')
    assert last.endswith("] [DONE] completed")


def test_half_a_character_is_shown_and_travels(server: TaskcastServer, tmp_path: Path) -> None:
    server.request("POST", "/tasks", {"id": "half"})
    server.request("POST", "/tasks/half/events", {"type": "cut", "level": "info", "data": "\ud83d"})
    server.request("PATCH", "/tasks/half/status", {"status": "cancelled"})
    shown = taskcast("logs", "half", "--types", "cut", "--url", server.url, home=tmp_path)
    assert shown.stdout.splitlines()[0].endswith('cut              info  "\\ud83d"')
    archive = taskcast("export", "half", "--url", server.url, home=tmp_path).stdout
    back = taskcast("import", "-", "--overwrite", "--url", server.url, home=tmp_path, stdin=archive)
    assert (back.returncode, back.stderr) == (0, "")
    assert server.history("half")[0]["data"] == "\ud83d"


def test_logs_of_nothing(server: TaskcastServer, tmp_path: Path) -> None:
    done = taskcast("logs", "nobody", "--url", server.url, home=tmp_path)
    assert (done.returncode, done.stderr) == (1, "[taskcast] Task not found\n")
    done = taskcast("logs", "nobody", "--url", "http://127.0.0.1:9", home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("[taskcast] cannot reach http://127.0.0.1:9: ")


def test_tail_shows_new_tasks_of_anybody(server: TaskcastServer, tmp_path: Path, terminals: Any) -> None:
    tail = terminals(server, "tail", "--types", "process.*")

    def seen() -> bool:
        # Only tasks that are made after the stream was opened are shown; so make them until one is.
        run(server, tmp_path, "-q", "--", "echo", "hello")
        return '.. process.stdout   info  {"line":"hello"}' in tail.read()

    eventually_sync(seen, 30)
    tail.process.send_signal(signal.SIGINT)
    assert tail.process.wait(20) == 130
