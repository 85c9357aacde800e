"""Running the blocks of one page, in the order in which a reader would."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from taskcast_core import Plugins, load_config
from tests.docs.snippets import FOR_THE_EYE, Snippet
from tests.tools.version import ROOT

DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
DOCUMENTED = ("http://localhost:3721", "http://127.0.0.1:3721")
BLOCK_DEADLINE_S = 60.0


class Shell:
    """A shell that stays open, so that variables and background jobs live as long as the page."""

    def __init__(self, directory: Path, url: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TASKCAST_")}
        self._output = directory / ".output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-o", "pipefail"], cwd=directory, stdin=subprocess.PIPE,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**clean, "PATH": f"{BIN}:{os.environ['PATH']}", "TASKCAST_URL": url},
            )  # fmt: skip
        self._blocks = 0

    def run(self, snippet: Snippet, code: str) -> str:
        """What the block prints; it fails when one of its commands does."""
        assert self._process.stdin is not None
        self._blocks += 1
        begin = self._output.stat().st_size
        sign = f"-- block {self._blocks} ended with "
        block = self._output.with_name(f".block-{self._blocks}.sh")
        block.write_text(code)
        # `set -e` would end the shell, and with it what the next blocks need.
        program = f"failed=; trap 'failed=\"${{failed:-$BASH_COMMAND}}\"' ERR\nsource {block} </dev/null\n"
        program += f'trap - ERR; echo "{sign}$failed."\n'
        self._process.stdin.write(program.encode())
        self._process.stdin.flush()
        deadline = time.monotonic() + BLOCK_DEADLINE_S
        while sign not in (text := self._output.read_bytes()[begin:].decode(errors="replace")):
            assert self._process.poll() is None, f"{snippet.place}: the shell has ended\n{text}"
            assert time.monotonic() < deadline, f"{snippet.place}: still running\n{text}"
            time.sleep(0.01)
        failed = text.partition(sign)[2].partition("\n")[0]
        assert failed == ".", f"{snippet.place}: {failed} failed\n{text}"
        return text.partition(sign)[0]

    def printed(self) -> str:
        """Everything so far, background jobs included."""
        return self._output.read_text(errors="replace")

    def close(self) -> None:
        """End it with all its jobs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.communicate()


class Page:
    """What the blocks of one page share: a directory, a namespace, a loop, a shell."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory, self._url = directory, url
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._loop: asyncio.Runner | None = None
        self._shell: Shell | None = None
        self._printed = ""

    def run(self, snippet: Snippet) -> None:
        """Do with a block what its language and its mark say."""
        code = snippet.code
        for url in DOCUMENTED:
            code = code.replace(url, self._url)
        if snippet.is_left_out:
            return
        if snippet.part_of:
            whole = (DOCS / snippet.part_of).read_text()
            assert _flush(snippet.code) in _flush(whole), f"{snippet.place}: {snippet.part_of} reads otherwise"
            return
        if snippet.file:
            path = self._directory / snippet.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
        elif snippet.is_output:
            self._check_output(snippet)
        elif snippet.language not in FOR_THE_EYE:
            getattr(self, f"_run_{snippet.language}")(snippet, code)

    def _check_output(self, snippet: Snippet) -> None:
        wanted = [line.strip() for line in snippet.code.strip().splitlines()]
        deadline = time.monotonic() + 20
        while missing := [line for line in wanted if line not in self._everything()]:
            assert time.monotonic() < deadline, f"{snippet.place}: not printed: {missing}\n{self._everything()}"
            time.sleep(0.02)

    def _everything(self) -> str:
        return self._printed + (self._shell.printed() if self._shell else "")

    def _run_python(self, snippet: Snippet, code: str) -> None:
        padded = "\n" * (snippet.line - 1) + code
        compiled = compile(padded, str(snippet.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                if inspect.CO_COROUTINE & compiled.co_flags:
                    self._loop = self._loop or asyncio.Runner()
                    self._loop.run(self._awaited(compiled))
                else:
                    exec(compiled, self._names)
            finally:
                self._printed += out.getvalue()

    async def _awaited(self, compiled: Any) -> None:
        async with asyncio.timeout(BLOCK_DEADLINE_S):
            await eval(compiled, self._names)

    def _run_sh(self, snippet: Snippet, code: str) -> None:
        self._shell = self._shell or Shell(self._directory, self._url)
        self._shell.run(snippet, code)

    def _run_yaml(self, snippet: Snippet, code: str) -> None:
        path = self._directory / f"block-{snippet.line}.yaml"
        path.write_text(code)
        plugins, variables = Plugins(), dict.fromkeys(re.findall(r"\$\{(\w+)\}", code), "of-the-environment")
        with patch.dict(os.environ, variables):
            plugins.check(load_config(path, plugins=plugins))

    def _run_json(self, snippet: Snippet, code: str) -> None:
        json.loads(code)

    def _run_toml(self, snippet: Snippet, code: str) -> None:
        tomllib.loads(code)

    def close(self) -> None:
        """End what is still running."""
        if self._loop is not None:
            self._loop.close()
        if self._shell is not None:
            self._shell.close()


def _flush(code: str) -> str:
    """Code without its indentation: a page may show an inner block."""
    return "\n".join(line.strip() for line in code.strip().splitlines())


@contextmanager
def page_in(directory: Path, url: str) -> Iterator[Page]:
    """A page whose blocks run in a directory, against the server at ``url``."""
    page = Page(directory, url)
    try:
        yield page
    finally:
        page.close()
