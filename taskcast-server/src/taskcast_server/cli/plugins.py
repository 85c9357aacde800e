"""``taskcast plugins``: what was discovered, by which distribution, from where."""

from __future__ import annotations

from taskcast_server.cli.flags import ConfigOption, OutputOption
from taskcast_server.cli.output import OutputFormat, fitted, tell, tell_json


def plugins(config: ConfigOption = None, output: OutputOption = OutputFormat.TEXT) -> None:
    """List the installed plugins and what they offer."""
    from taskcast_server.cli.loading import load

    found = load(config).plugins.describe()
    if output is OutputFormat.JSON:
        tell_json({
            "plugins": [
                {
                    "kind": each.kind, "name": each.name, "distribution": each.distribution, "version": each.version,
                    "location": each.location, "path": each.path, "loaded": each.loaded,
                }
                for each in found
            ]
        })  # fmt: skip
        return
    is_verbose = output is OutputFormat.VERBOSE
    rows = [
        (
            each.kind + ("" if each.loaded else " (not loaded)"),
            each.name,
            f"{each.distribution} {each.version}".rstrip(),
            f"{each.location} in {each.path}" if is_verbose else each.location,
        )
        for each in found
    ]
    for line in fitted(("KIND", "NAME", "DISTRIBUTION", "LOCATION"), rows):
        tell(line)
