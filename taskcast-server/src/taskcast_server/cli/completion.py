"""``--show-completion`` and ``--install-completion``: the script that lets a shell complete what is typed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from taskcast_server.cli.output import CliError, tell

PROGRAM = "taskcast"
VARIABLE = "_TASKCAST_COMPLETE"
"""Set by the script when it asks for what can follow."""

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """What a shell has to run once, for this program to be completed.

    Raises:
        CliError: there is none for this shell.
    """
    from click.shell_completion import get_completion_class  # which nothing else needs

    completion = get_completion_class(shell) if shell in SHELLS else None
    if completion is None:
        raise CliError(f"there is no completion for {shell or 'this shell'}, only for {', '.join(SHELLS)}")
    return completion(click.Command(PROGRAM), {}, PROGRAM, VARIABLE).source()


def install(shell: str, home: Path) -> Path:
    """Write the script where the shell looks for it, and have it looked at; gives its path.

    Raises:
        CliError: as `script`. OSError: it cannot be written.
    """
    text = script(shell)
    if shell == "fish":
        return _written(home / ".config" / "fish" / "completions" / f"{PROGRAM}.fish", text)
    if shell == "zsh":
        _add_line(home / ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit")
        return _written(home / ".zfunc" / f"_{PROGRAM}", text)
    path = _written(home / ".bash_completions" / f"{PROGRAM}.sh", text)
    _add_line(home / ".bashrc", f"source '{path}'")
    return path


def add_options(command: click.Command) -> None:
    """Give the program both options."""
    shown = "Show completion for the current shell, to copy it or customize the installation."
    command.params += [
        _option("--install-completion", "Install completion for the current shell.", _install),
        _option("--show-completion", shown, _show),
    ]


def _option(name: str, meaning: str, callback: Callable[[click.Context, click.Parameter, bool], None]) -> click.Option:
    return click.Option([name], is_flag=True, is_eager=True, expose_value=False, help=meaning, callback=callback)


def _show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        tell(script(_current_shell()))
        context.exit()


def _install(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        shell = _current_shell()
        path = install(shell, Path.home())
        tell(f"Completion for {shell} is in {path}; it takes effect in the next terminal.")
        context.exit()


def _current_shell() -> str:
    return Path(os.environ.get("SHELL", "")).name


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _add_line(path: Path, line: str) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if line not in text.splitlines():
        path.write_text(f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n", encoding="utf-8")
