"""Completion of the command line by a shell."""

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskcast_server.cli import completion
from taskcast_server.cli.main import COMMANDS, program, program_for


@pytest.mark.parametrize(
    ("shell", "place", "mentioned_in"),
    [
        ("bash", ".bash_completions/taskcast.sh", ".bashrc"),
        ("zsh", ".zfunc/_taskcast", ".zshrc"),
        ("fish", ".config/fish/completions/taskcast.fish", None),
    ],
)
def test_it_is_installed_where_the_shell_looks(
    shell: str, place: str, mentioned_in: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    monkeypatch.setenv("HOME", str(tmp_path))
    if mentioned_in:
        (tmp_path / mentioned_in).write_text("echo mine")  # without a line's end
    for _ in range(2):  # the second time changes nothing
        done = CliRunner().invoke(program_for(["--install-completion"]), ["--install-completion"])
        assert (done.exit_code, str(tmp_path / place) in done.output) == (0, True), done.output
    assert completion.VARIABLE in (tmp_path / place).read_text()
    if mentioned_in:
        lines = (tmp_path / mentioned_in).read_text().splitlines()
        assert (lines[0], len(lines)) == ("echo mine", 2)


def test_it_is_shown_for_the_current_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    done = CliRunner().invoke(program([]), ["--show-completion"])
    assert (done.exit_code, done.output.startswith("#compdef taskcast")) == (0, True)


def test_an_unknown_shell_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/csh")
    done = CliRunner().invoke(program([]), ["--show-completion"])
    assert "no completion for csh" in str(done.exception)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_is_told_what_can_follow() -> None:
    completed = CliRunner().invoke(
        program(COMMANDS),
        prog_name="taskcast",
        env={completion.VARIABLE: "bash_complete", "COMP_WORDS": "taskcast tasks c", "COMP_CWORD": "2"},
    )
    assert completed.output == "plain,create\nplain,cancel\n"
    bash = shutil.which("bash") or ""
    subprocess.run([bash, "-n"], input=completion.script("bash"), text=True, check=True, timeout=20)
