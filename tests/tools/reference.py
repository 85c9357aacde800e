"""Writes the reference of the documentation from the code: `python -m tests.tools.reference`.

One page per subject, all of them text that the code itself carries: route table, option classes, command line,
hookspecs, contracts, errors. With `--check` nothing is written, and the status says whether all is in step.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args, get_origin

import attrs
import click

from taskcast_core import contracts, errors, hookspecs
from taskcast_core.config.fields import init_fields, is_class
from taskcast_core.config.nodes import Leaf, join
from taskcast_core.config.options import traits, wire_name
from taskcast_core.config.scalars import bare
from taskcast_core.config.tree import CoreSettings
from taskcast_core.plugins import Plugins
from taskcast_core.registry import Provider
from taskcast_server.cli import extensions
from taskcast_server.cli.main import COMMANDS, program
from taskcast_server.openapi import document
from taskcast_server.routes.table import route_table
from tests.tools.version import ROOT

REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; edit the code. -->\n"


def pages() -> dict[str, str]:
    """Name of each page → its text."""
    writers: dict[str, Callable[[], Iterator[str]]] = {
        "rest": rest, "sse": sse, "config": config, "cli": cli, "hooks": hooks, "contracts": protocols,
        "errors": error_codes,
    }  # fmt: skip
    return {f"{name}.md": NOTE + "\n" + "\n".join(writer()).rstrip() + "\n" for name, writer in writers.items()}


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def prose(text: str | None) -> str:
    """A docstring as Markdown."""
    out = inspect.cleandoc(text or "").replace("``", "`")
    out = re.sub(r"::\n\n((?: {4}.*\n?|\n)+)", lambda m: ":\n\n```text\n" + dedent(m[1]).strip() + "\n```\n", out)
    return re.sub(r"^(Attributes|Raises|Args):\n((?: {4}.*\n?)+)", _as_list, out, flags=re.MULTILINE).strip()


def _as_list(found: re.Match[str]) -> str:
    """A section of a docstring: lines that are indented further belong to the item before."""
    items = re.sub(r"\n {8,}", " ", found[2]).rstrip("\n").split("\n")
    return f"{found[1]}:\n\n" + "".join(f"- {item.strip()}\n" for item in items)


# ── REST and SSE ──────────────────────────────────────────────────────────────────────────────────────────────────


def rest() -> Iterator[str]:
    """Every route, from the table that the server walks."""
    api = document(route_table())
    yield "# REST\n"
    yield "The server tells the same as an OpenAPI 3.1 document at `/openapi.json`, and as a page at `/docs`."
    yield 'Errors are JSON: `{"error": "…", "code": "…"}`; see [errors](errors.md). Writes take an `Idempotency-Key`.\n'
    operations = [(path, verb, one) for path, verbs in api["paths"].items() for verb, one in verbs.items()]
    for tag in (each["name"] for each in api["tags"]):
        yield f"## {tag}\n"
        for path, verb, one in operations:
            if tag in one["tags"]:
                yield from _operation(path, verb, one)
    yield "## Schemas\n"
    for name, schema in api["components"]["schemas"].items():
        yield f"### {name}\n"
        yield from _schema(schema)


def _operation(path: str, verb: str, one: dict[str, Any]) -> Iterator[str]:
    yield f"### `{verb.upper()} {path}`\n"
    yield f"{one['summary']}. {one.get('description', '')}".rstrip() + "\n"
    given = [each for each in one.get("parameters", ()) if each["in"] != "path"]
    if given:
        yield from table(["parameter", "in", "meaning"], [[f"`{p['name']}`", p["in"], p["description"]] for p in given])
    if body := one.get("requestBody"):
        yield f"Body: {_kind(body['content']['application/json']['schema'])}\n"
    replies = [[code, reply["description"], _content(reply)] for code, reply in sorted(one["responses"].items())]
    yield from table(["status", "meaning", "body"], replies)


def _content(reply: dict[str, Any]) -> str:
    return ", ".join(
        f"{_kind(found['schema'])}" + ("" if kind == "application/json" else f" (`{kind}`)")
        for kind, found in reply.get("content", {}).items()
    )


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " \\| ".join(f"`{each}`" for each in schema["enum"]).replace("\\|", "or")
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return (" and " if word == "allOf" else " or ").join(_kind(each) for each in schema[word])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and schema.get("properties"):
        return "{" + ", ".join(schema["properties"]) + "}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _schema(schema: dict[str, Any]) -> Iterator[str]:
    properties = schema.get("properties")
    if not properties:
        yield _kind(schema) + "\n"
        return
    required = schema.get("required", ())
    rows = [[f"`{name}`", _kind(each), "yes" if name in required else ""] for name, each in properties.items()]
    yield from table(["field", "type", "required"], rows)


def sse() -> Iterator[str]:
    """The parameters of the two streams come from the table; what frames look like does not change."""
    api = document(route_table())
    yield "# Server-Sent Events\n"
    yield dedent("""\
        A stream consists of frames of two kinds, and of comment lines (`:`) that keep it alive. Lines end in LF; `data`
        is one line of JSON.

        ```text
        event: taskcast.event
        data: {"filteredIndex":0,"rawIndex":0,"eventId":"01J…","taskId":"01J…","type":"tick",…,"data":1}
        id: 01J…

        event: taskcast.done
        data: {"reason":"completed"}

        ```

        `taskcast.done` ends the stream: the task is `completed`, `failed`, `timeout` or `cancelled`. A stream that ends
        without it was cut. Open it again with the id of the last frame, as `since.id` or `Last-Event-ID` (browsers send
        the latter by themselves): what follows is exactly what was missed.

        | field of `data` | meaning |
        |---|---|
        | `filteredIndex` | place among the events that this stream's filter lets through: 0, 1, 2 … |
        | `rawIndex` | place in the task's log |
        | `eventId` | the same as `id`; with `wrap=false` the field is called `id` |
        | `taskId`, `type`, `timestamp` (ms), `level`, `data` | the event |
        | `seriesId`, `seriesMode`, `seriesAccField` | of events of a series |
        | `seriesSnapshot` | `true`: the data holds the whole series up to here; replace, do not append |

        Types that Taskcast writes itself begin with `taskcast:`. `taskcast:status` carries `{status, result?, error?}`,
        `taskcast:signal` `{id, type, data}` what somebody has told the task (`POST /tasks/{taskId}/signals`), and
        `taskcast:gap` (without an id) says that a position cannot be honoured, and why; what follows begins anew.
        """)
    for path in ("/tasks/{taskId}/events", "/events"):
        yield f"## `GET {path}`\n"
        one = api["paths"][path]["get"]
        yield f"{one['summary']}. {one.get('description', '')}\n"
        rows = [[f"`{p['name']}`", p["in"], p["description"]] for p in one.get("parameters", ()) if p["in"] != "path"]
        yield from table(["parameter", "in", "meaning"], rows)


# ── Configuration ─────────────────────────────────────────────────────────────────────────────────────────────────


def config() -> Iterator[str]:
    """Every option of every section, core's, the server's and those of our own plugins."""
    plugins = Plugins().load()
    yield "# Configuration\n"
    yield dedent("""\
        The first of these files is read: `--config`; in the working directory `taskcast.config.py`, `.yaml`, `.yml`,
        `.json`, `.toml`; the same in `~/.taskcast` (or `TASKCAST_CONFIG_DIR`). A flag goes before the environment, the
        environment before the file, the file before the default. `${NAME}` in a file stands for a variable.

        Every option can also be set by a variable: `TASKCAST_` and the path, with `__` between its levels, so
        `workers.enabled` is `TASKCAST_WORKERS__ENABLED`. The tables name only the variables that are called otherwise.
        `taskcast config check` shows what holds, and where it comes from.
        """)
    sections = [("", CoreSettings), *((each.name, each.cls) for each in plugins.sections)]
    for name, cls in sorted(sections, key=lambda one: (one[0] != "", one[0])):
        yield f"## {f'`{name}`' if name else 'Top level'} ({_owner(cls)})\n"
        yield from _options(name, cls)
    kinds = (
        ("adapters.broadcast", plugins.broadcasts), ("adapters.shortTermStore", plugins.short_term_stores),
        ("adapters.longTermStore", plugins.long_term_stores), ("auth", plugins.authenticators),
    )  # fmt: skip
    for path, registry in kinds:
        for provider in sorted(registry, key=lambda each: each.name):
            if provider.options_class is not None and provider.distribution.startswith("taskcast-"):
                yield from _provider(path, provider)


def _owner(cls: type[Any]) -> str:
    return cls.__module__.partition(".")[0].replace("_", "-")


def _provider(path: str, provider: Provider) -> Iterator[str]:
    assert provider.options_class is not None
    if path == "auth":
        yield f"## `auth.mode: {provider.name}` ({provider.distribution})\n"
        yield from _options(f"auth.{provider.name}", provider.options_class)
    else:
        yield f"## `{path}.provider: {provider.name}` ({provider.distribution})\n"
        yield from _options(path, provider.options_class)


def _options(path: str, cls: type[Any]) -> Iterator[str]:
    rows = list(_rows(path, cls))
    yield from table(["option", "type", "default", "variables", "meaning"], rows) if rows else iter(["none\n"])


def _rows(path: str, cls: type[Any]) -> Iterator[list[str]]:
    for each in init_fields(cls):
        known = traits(each)
        kind, _ = bare(each.type)
        where = join(path, wire_name(each.name))
        if known.extras:
            continue
        if is_class(kind):
            yield from _rows(where, kind)
            continue
        meaning = "; ".join(filter(None, (known.help, known.expected)))
        variables = ", ".join(f"`{name}`" for name in known.env)
        yield [f"`{where}`", _type(each.type), _default(each), variables, meaning]


def _type(kind: Any) -> str:
    kind, _ = bare(kind)
    if kind is Leaf or kind is Any:
        return "name" if kind is Leaf else "object"
    if get_origin(kind) is None:
        return {"str": "text", "int": "integer", "bool": "true or false", "float": "number", "Path": "path"}.get(
            getattr(kind, "__name__", str(kind)), getattr(kind, "__name__", str(kind))
        )
    if kind.__class__.__name__ == "_LiteralGenericAlias":
        return ", ".join(f"`{each}`" for each in get_args(kind))
    inner = [_type(each) for each in get_args(kind) if each is not Ellipsis and each is not type(None)]
    origin = getattr(get_origin(kind), "__name__", "")
    if origin == "tuple":
        return f"list of {inner[0]}"
    return f"mapping of {inner[0]} to {inner[1]}" if origin == "dict" else " or ".join(dict.fromkeys(inner))


def _default(field: attrs.Attribute[Any]) -> str:
    value: Any = field.default
    if value is attrs.NOTHING:
        return "required"
    if hasattr(value, "factory"):
        value = value.factory()
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value.value if isinstance(value, Enum) else value}`"


# ── Command line ──────────────────────────────────────────────────────────────────────────────────────────────────


def cli() -> Iterator[str]:
    """Every command with its options."""
    yield "# Command line\n"
    yield "Without a command, `taskcast` starts the server. Every command has `--help`."
    yield "Results go to standard output, everything else to standard error."
    yield "Distributions may bring further ones, as entry points of the group `taskcast.commands`, each an ordinary"
    yield "function; `worker` comes with `taskcast-client`.\n"
    root = program(COMMANDS, extensions.commands(""))
    context = click.Context(root, info_name="taskcast")
    yield from _command(root, context)


def _command(command: Any, context: click.Context) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    if context.parent is not None:
        yield f"## `{context.command_path}`\n"
        yield prose(command.help) + "\n"
        rows = []
        for each in command.params:
            if each.name == "help":
                continue
            is_argument = each.param_type_name == "argument"
            name = each.name if is_argument else ", ".join((*each.opts, *each.secondary_opts))
            default = each.default if isinstance(each.default, str | int | float | Path) else ""
            shown = "" if isinstance(default, bool) else str(default)
            rows.append([f"`{name}`", getattr(each, "help", None) or "", f"`{shown}`" if shown else ""])
        if rows:
            yield from table(["option", "meaning", "default"], rows)
    for name in sorted(inner):
        yield from _command(inner[name], click.Context(inner[name], info_name=name, parent=context))


# ── Plugins ───────────────────────────────────────────────────────────────────────────────────────────────────────


def hooks() -> Iterator[str]:
    """Every hookspec with its docstring."""
    yield "# Hooks\n"
    yield prose(hookspecs.__doc__) + "\n"
    for title, names in (("Registration", hookspecs.REGISTRATION_HOOKS), ("Lifecycle", hookspecs.LIFECYCLE_HOOKS)):
        yield f"## {title}\n"
        for name in names:
            found = getattr(hookspecs, name)
            yield f"### `{name}`\n"
            yield f"`{name}{_signature(found)}`\n"
            yield prose(found.__doc__) + "\n"


def protocols() -> Iterator[str]:
    """Every Protocol with its verbs, then the values that they exchange."""
    yield "# Contracts\n"
    yield "What a plugin implements: small Protocols in `taskcast_core.contracts`. The docstrings are the law; the"
    yield "[contract kit](../plugins/write-a-store.md) proves that a plugin keeps it.\n"
    named: list[tuple[str, Any]] = [(name, getattr(contracts, name)) for name in contracts.__all__]
    classes = [(name, cls) for name, cls in named if isinstance(cls, type)]
    for name, cls in (one for one in classes if getattr(one[1], "_is_protocol", False)):
        yield f"## {name}\n"
        bases = [base.__name__ for base in cls.__mro__[1:] if getattr(base, "_is_protocol", False)]
        above = [base for base in bases if base != "Protocol"]
        yield prose(cls.__doc__) + (f"\n\nAnd all verbs of {', '.join(above)}." if above else "") + "\n"
        for verb, function in vars(cls).items():
            if verb.startswith("_"):
                continue
            if isinstance(function, property):
                yield f"### `{name}.{verb}`\n\n{prose(function.__doc__)}\n"
            elif inspect.isfunction(function):
                yield f"### `{name}.{verb}`\n"
                yield f"`{'async ' if inspect.iscoroutinefunction(function) else ''}{verb}{_signature(function)}`\n"
                yield prose(function.__doc__) + "\n"
    yield "## Values\n"
    for name, cls in (one for one in named if attrs.has(one[1])):
        yield f"### {name}\n"
        written = _annotations(cls)
        fields = ", ".join(f"{name}: {written[name]}" for name in attrs.fields_dict(cls))
        yield f"`{name}({fields})`\n"
        yield prose(cls.__doc__) + "\n"


def _signature(function: Callable[..., Any]) -> str:
    return re.sub(r"\(self(, )?", "(", str(inspect.signature(function)).replace("'", ""), count=1)


def _annotations(cls: type) -> dict[str, str]:
    """Types of fields as the source has them: `attrs` resolves its own copy once a converter has met the class."""
    return {name: kind for base in reversed(cls.__mro__) for name, kind in inspect.get_annotations(base).items()}


def error_codes() -> Iterator[str]:
    """Every error with its stable code."""
    yield "# Errors\n"
    yield "Programs look at `code`, people at `error`. `retryable` says whether the same request may succeed later.\n"
    found = [cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, errors.TaskcastError)]
    known = {cls.code: cls for cls in found if "code" in vars(cls) and not issubclass(cls, errors.StoreSignal)}
    rows = [
        [f"`{code}`", f"`{cls.__name__}`", "yes" if cls.retryable else "", prose(cls.__doc__).split("\n\n")[0]]
        for code, cls in sorted(known.items())
    ]
    yield from table(["code", "class in `taskcast_core.errors`", "retryable", "meaning"], rows)


def main(arguments: list[str]) -> int:
    """Write the pages, or tell which differ."""
    stale = []
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = REFERENCE / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text)
    if stale and "--check" in arguments:
        print("not in step with the code (run `make docs`):", *stale)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
