"""``taskcast init``: a configuration file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from taskcast_server.cli.commands import option
from taskcast_server.cli.flags import OutputOption
from taskcast_server.cli.nodes_file import config_directory
from taskcast_server.cli.output import CliError, OutputFormat, tell_result

NAME = "taskcast.config.yaml"
TEMPLATE = """\
# Taskcast's configuration. ${NAME} stands for an environment variable; `taskcast config check` shows what holds.

port: 3721
host: 127.0.0.1
logLevel: info # debug, info, warn, error

adapters:
  shortTermStore:
    provider: sqlite # or memory, which keeps nothing when the server stops
    path: ./taskcast.db
  broadcast:
    provider: memory

auth:
  mode: none # or jwt:
  # jwt:
  #   algorithm: HS256
  #   secret: ${TASKCAST_JWT_SECRET}

# workers:
#   enabled: true

# adminApi: true
# adminToken: ${TASKCAST_ADMIN_TOKEN}
"""


def init(
    is_global: Annotated[
        bool, option("--global", help="For all directories: into ~/.taskcast, or TASKCAST_CONFIG_DIR.")
    ] = False,
    force: Annotated[bool, option("--force", help="Replace a file that is there.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write a configuration file to begin with."""
    directory = config_directory() if is_global else Path.cwd()
    path = directory / NAME
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise CliError(f"{path} is there already; replace it with --force") from error
    tell_result({"ok": True, "path": str(path)}, f"Wrote {path}", output)
