"""The text of a systemd unit that runs the server with no more rights than it needs."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from taskcast_core.values import frozen

STOP_S = 45
"""Requests under way (15 s), observers and followers (10 s each) and the stores end within this."""
STATE = Path("/var/lib/taskcast")
"""What the machine's service may write to."""
_LOWEST_FREE_PORT = 1024
_HOMES = ("/home", "/root", "/run/user")
"""What ``ProtectHome=`` speaks of."""

_HARDENING = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
"""
_OF_THE_MACHINE = """\
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
KeyringMode=private
RemoveIPC=yes
"""


@frozen
class Unit:
    """What the server is to run with.

    Attributes:
        program: the ``taskcast`` to run. config, db_path: absolute. is_of_user: a service in somebody's session; else
        of the machine. account: whose name the machine's service runs under; None is one that systemd makes up.
    """

    program: Path
    config: Path | None = None
    port: int | None = None
    host: str | None = None
    storage: str | None = None
    db_path: Path | None = None
    is_of_user: bool = False
    account: str | None = None

    @property
    def command(self) -> list[str]:
        """The command line."""
        flags = {
            "--config": self.config, "--host": self.host, "--port": self.port, "--storage": self.storage,
            "--db-path": self.db_path,
        }  # fmt: skip
        given = [(flag, str(value)) for flag, value in flags.items() if value is not None]
        return [str(self.program), "start", *(word for pair in given for word in pair)]


def render(unit: Unit) -> str:
    """The unit file."""
    return "\n".join(
        [
            "# Written by `taskcast service install`; put changes of your own into a drop-in (`systemctl edit`).",
            "[Unit]",
            "Description=Taskcast: tasks that run long, followed live",
            *([] if unit.is_of_user else ["Wants=network-online.target", "After=network-online.target"]),
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart={' '.join(_quoted(word) for word in unit.command)}",
            *_environment(unit),
            "Restart=on-failure",
            "RestartSec=2",
            f"TimeoutStopSec={STOP_S}",
            "# One for each stream.",
            "LimitNOFILE=65536",
            "",
            *_rights(unit),
            "",
            "[Install]",
            f"WantedBy={'default.target' if unit.is_of_user else 'multi-user.target'}",
            "",
        ]
    )


def closed_to_others(unit: Unit) -> Iterator[Path]:
    """The program and the configuration, where the user that systemd makes up could not reach them."""
    if unit.is_of_user or unit.account is not None:
        return
    for path, needed in ((unit.program, stat.S_IXOTH), (unit.config, stat.S_IROTH)):
        if path is None or not path.exists():
            continue
        is_open = all(each.stat().st_mode & stat.S_IXOTH for each in path.parents)
        if _is_in_a_home(path) or not (is_open and path.stat().st_mode & needed):
            yield path


def _environment(unit: Unit) -> list[str]:
    if unit.is_of_user:
        return ["# Secrets, as NAME=value lines, readable for you alone.", "EnvironmentFile=-%h/.taskcast/environment"]
    return [
        "# Secrets, as NAME=value lines, readable for root alone: systemd hands them over.",
        "EnvironmentFile=-/etc/taskcast/environment",
        "Environment=TASKCAST_CONFIG_DIR=/etc/taskcast",
        "# Without another storage tasks are kept in /var/lib/taskcast/taskcast.db.",
        "Environment=XDG_STATE_HOME=%S",
    ]


def _rights(unit: Unit) -> list[str]:
    lines = ["# No more rights than a server needs.", *_HARDENING.splitlines()]
    if unit.is_of_user:
        return lines
    account = "DynamicUser=yes" if unit.account is None else f"User={_quoted(unit.account)}"
    state = ["StateDirectory=taskcast", "StateDirectoryMode=0700", "WorkingDirectory=%S/taskcast"]
    outside = unit.db_path is not None and not unit.db_path.is_relative_to(STATE)
    writable = [f"ReadWritePaths={_quoted(str(unit.db_path.parent))}"] if unit.db_path and outside else []
    paths = [each for each in (unit.program, unit.config, unit.db_path) if each is not None]
    homes = "read-only" if unit.account is not None and any(map(_is_in_a_home, paths)) else "yes"
    bound = "CAP_NET_BIND_SERVICE" if unit.port is not None and unit.port < _LOWEST_FREE_PORT else ""
    powers = [f"CapabilityBoundingSet={bound}", f"AmbientCapabilities={bound}"]
    return [account, *state, *writable, *lines, f"ProtectHome={homes}", *_OF_THE_MACHINE.splitlines(), *powers]


def _is_in_a_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in _HOMES)


def _quoted(word: str) -> str:
    """A word as unit files want it: ``%`` and ``$`` have a meaning there, blanks end a word."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(each in escaped for each in " \t'\"\\;") else escaped
