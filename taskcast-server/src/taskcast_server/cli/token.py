"""``taskcast token``: a JWT for development, signed with the configured secret."""

from __future__ import annotations

from typing import Annotated

from taskcast_server.cli.commands import option
from taskcast_server.cli.flags import ConfigOption, OutputOption
from taskcast_server.cli.output import CliError, OutputFormat, tell_result

DAY_S = 86_400


def token(
    scope: Annotated[list[str] | None, option(help="What it allows; may be repeated. Everything if none.")] = None,
    task_id: Annotated[list[str] | None, option(help="The only tasks it is for; may be repeated.")] = None,
    expires_in: Annotated[int, option(min=1, help="Seconds until it expires.")] = DAY_S,
    subject: Annotated[str | None, option(help="Who it is for.")] = None,
    config: ConfigOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Make a token that a server with this configuration accepts."""
    from taskcast_server.auth.admin import mint_token
    from taskcast_server.auth.assembly import jwt_options
    from taskcast_server.auth.options import AuthOptions
    from taskcast_server.cli.loading import load

    auth = load(config).config.section(AuthOptions)
    options = jwt_options(auth)
    if options is None:
        raise CliError(f"auth.mode is {auth.mode}; tokens are for the mode jwt")
    minted = mint_token(options, scope or ["*"], task_id, expires_in, subject)
    tell_result({"token": minted.token, "expiresAt": minted.expires_at}, minted.token, output)
