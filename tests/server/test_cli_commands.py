"""Commands made from functions."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pytest
from click.testing import CliRunner

from taskcast_server.cli.commands import Command, Group, argument, option


class Colour(StrEnum):
    """One of the words."""

    RED = "dark-red"
    BLUE = "blue"


class Called:
    """A command with what it has been called with."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

        def paint(
            what: Annotated[list[str], argument(metavar="WHAT...", help="What to paint.")],
            width: Annotated[int, option("--width", "-w", min=1, max=9, help="How wide.")] = 3,
            share: Annotated[float | None, option(min=0)] = None,
            colour: Colour = Colour.RED,
            kind: Literal["oil", "water"] = "oil",
            tag: list[str] | None = None,
            into: Path | None = None,
            quick: bool = False,
        ) -> int:
            """Paint it."""
            self.given = dict(locals())
            return 3

        self.command = Command("paint", paint, help=paint.__doc__)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output."""
        done = CliRunner().invoke(self.command, arguments)
        return done.exit_code, done.output


@pytest.fixture
def paint() -> Called:
    return Called()


def test_what_is_not_given_is_the_default_of_the_function(paint: Called) -> None:
    assert paint("wall") == (0, "")
    assert {name: value for name, value in paint.given.items() if name != "self"} == {
        "what": ["wall"], "width": 3, "share": None, "colour": Colour.RED, "kind": "oil", "tag": None, "into": None,
        "quick": False,
    }  # fmt: skip


def test_what_is_given_becomes_what_the_annotation_says(paint: Called) -> None:
    given = "-w 4 --share 0.5 --colour blue --kind water --tag a --tag b --into x/y --quick wall door"
    assert paint(*given.split()) == (0, "")
    assert {name: value for name, value in paint.given.items() if name != "self"} == {
        "what": ["wall", "door"], "width": 4, "share": 0.5, "colour": Colour.BLUE, "kind": "water", "tag": ["a", "b"],
        "into": Path("x/y"), "quick": True,
    }  # fmt: skip
    assert type(paint.given["colour"]) is Colour


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("", "Missing argument 'WHAT...'"),
        ("wall --width 10", "10 is not in the range 1<=x<=9"),
        ("wall --width x", "not a valid integer"),
        ("wall --share -1", "-1.0 is not in the range x>=0"),
        ("wall --colour green", "'green' is not one of 'dark-red', 'blue'"),
        ("wall --kind chalk", "'chalk' is not one of 'oil', 'water'"),
        ("wall --widht 4", "Did you mean"),
    ],
)
def test_what_cannot_be_is_a_usage_error(paint: Called, arguments: str, complaint: str) -> None:
    status, output = paint(*arguments.split())
    assert (status, complaint in output) == (2, True), output


def test_the_help_says_what_is_declared(paint: Called) -> None:
    status, output = paint("--help")
    assert status == 0
    for said in ("Paint it.", "What to paint.", "-w, --width", "How wide.", "[default: 3; 1<=x<=9]", "dark-red|blue"):
        assert said in output
    assert "[default: dark-red]" in output


def test_a_parameter_that_no_text_can_become_is_refused() -> None:
    def measure(size: complex = 1j) -> None:
        """Measure."""

    with pytest.raises(TypeError, match="parameter size"):
        Command("measure", measure)


def test_ctrl_c_ends_a_command_as_shells_expect_it() -> None:
    def wait() -> None:
        raise KeyboardInterrupt

    done = CliRunner().invoke(Command("wait", wait), [])
    assert (done.exit_code, done.output) == (130, "")


def test_a_group_lists_its_commands_in_their_order() -> None:
    group = Group("all")
    for name in ("zoom", "about"):
        group.command(name)(lambda: None)
    assert group.list_commands(click.Context(group)) == ["zoom", "about"]
    assert isinstance(group.commands["zoom"], Command)
