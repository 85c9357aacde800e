"""``taskcast service``: the server as a unit of systemd, for the machine or for one user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import click

from taskcast_server.cli.commands import Group, option
from taskcast_server.cli.flags import ConfigOption, DbPathOption, OutputOption, StorageOption
from taskcast_server.cli.output import CliError, OutputFormat, remark, tell, tell_json
from taskcast_server.cli.systemd_unit import STATE, Unit, closed_to_others, render

UserOption = Annotated[
    bool, option("--user", help="A service of your own account, which needs no rights; else the machine's.")
]
NameOption = Annotated[str, option("--name", help="Name of the unit.")]

app = Group("service", help="Run the server as a service of systemd.")


@app.command()
def install(
    user: UserOption = False,
    name: NameOption = "taskcast",
    config: ConfigOption = None,
    port: Annotated[
        int | None, option("--port", "-p", min=1, max=65_535, help="Port to listen on; 3721 by default.")
    ] = None,
    host: Annotated[str | None, option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    storage: StorageOption = None,
    db_path: DbPathOption = None,
    account: Annotated[
        str | None, option(help="Existing account to run under; systemd makes one up otherwise.")
    ] = None,
    only_print: Annotated[bool, option("--print", help="Print the unit; write nothing.")] = False,
    force: Annotated[bool, option("--force", help="Replace a unit that is there.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write a hardened unit file, and say how to start it."""
    unit = Unit(
        program=_program(),
        config=_absolute(config),
        port=port,
        host=host,
        storage=storage,
        db_path=_absolute(db_path),
        is_of_user=user,
        account=account,
    )
    _check(unit)
    if only_print:
        tell(render(unit).rstrip("\n"))
        return
    path = unit_path(name, is_of_user=user)
    _write(path, render(unit), force=force)
    steps = [[*_systemctl(user), "daemon-reload"], [*_systemctl(user), "enable", "--now", name]]
    if output is OutputFormat.JSON:
        tell_json({"ok": True, "path": str(path), "next": [" ".join(step) for step in steps]})
        return
    tell(f"Wrote {path}; now:")
    for step in steps:
        tell(f"  {' '.join(step)}")
    if user:
        tell("  loginctl enable-linger        # to have it run while you are not logged in")


@app.command()
def uninstall(user: UserOption = False, name: NameOption = "taskcast") -> None:
    """Stop the service and remove its unit file; its data stays."""
    path = unit_path(name, is_of_user=user)
    if not path.exists():
        raise CliError(f"there is no {path}")
    _run([*_systemctl(user), "disable", "--now", name])
    path.unlink()
    _run([*_systemctl(user), "daemon-reload"])
    tell(f"Removed {path}")


@app.command()
def start(user: UserOption = False, name: NameOption = "taskcast") -> None:
    """Start the service."""
    raise click.exceptions.Exit(_run([*_systemctl(user), "start", name]))


@app.command()
def stop(user: UserOption = False, name: NameOption = "taskcast") -> None:
    """Stop the service; readers are told to come back."""
    raise click.exceptions.Exit(_run([*_systemctl(user), "stop", name]))


@app.command()
def restart(user: UserOption = False, name: NameOption = "taskcast") -> None:
    """Stop and start the service."""
    raise click.exceptions.Exit(_run([*_systemctl(user), "restart", name]))


@app.command()
def status(user: UserOption = False, name: NameOption = "taskcast") -> None:
    """Say how the service is, in systemd's words and with its exit status."""
    raise click.exceptions.Exit(_run([*_systemctl(user), "status", "--no-pager", name]))


def unit_path(name: str, *, is_of_user: bool) -> Path:
    """Where an administrator's unit files are.

    Raises:
        CliError: a unit cannot have such a name.
    """
    if not name or not all(each.isascii() and (each.isalnum() or each in "-_.") for each in name):
        raise CliError(f'"{name}" is no name for a unit')
    if not is_of_user:
        return Path("/etc/systemd/system") / f"{name}.service"
    base = os.environ.get("XDG_CONFIG_HOME")
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".config"
    return home / "systemd" / "user" / f"{name}.service"


def _program() -> Path:
    """The ``taskcast`` of this environment; not resolved further, since links are how environments are switched."""
    beside = Path(sys.executable).with_name("taskcast")
    found = str(beside) if beside.exists() else shutil.which("taskcast")
    if found is None:
        raise CliError(f"there is no program taskcast beside {sys.executable}")
    return Path(found).absolute()


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()


def _check(unit: Unit) -> None:
    """Warn of what the service cannot reach.

    Raises:
        CliError: the unit could never work.
    """
    if unit.account is not None and unit.is_of_user:
        raise CliError("--account is for the machine's service; --user runs it under your own")
    if unit.db_path and not (unit.is_of_user or unit.account or unit.db_path.is_relative_to(STATE)):
        raise CliError(f"an account that systemd makes up owns nothing outside {STATE}; name one with --account")
    for path in closed_to_others(unit):
        remark(
            f"the service's account cannot reach {path}: install Taskcast under /opt, put the configuration into "
            "/etc/taskcast, or use --account or --user"
        )


def _write(path: Path, text: str, *, force: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise CliError(f"{path} is there already; replace it with --force") from error


def _systemctl(is_of_user: bool) -> list[str]:
    return ["systemctl", "--user"] if is_of_user else ["systemctl"]


def _run(command: list[str]) -> int:
    """Run it with this terminal as its own; its exit status.

    Raises:
        CliError: there is no such program.
    """
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - our words, no shell
    except FileNotFoundError as error:
        raise CliError("there is no systemctl here: is this machine run by systemd?") from error
