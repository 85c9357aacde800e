"""One timer for all connections."""

import asyncio

import pytest

from taskcast_server.wheel import Wheel
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio


class Spoke:
    def __init__(self) -> None:
        self.beats = 0
        self.expired_at: float | None = None

    def beat(self) -> None:
        self.beats += 1

    def expire(self) -> None:
        self.expired_at = asyncio.get_running_loop().time()


async def test_it_beats_for_all_and_stands_still_when_empty() -> None:
    wheel, spokes = Wheel(beat_s=0.05, tick_s=0.01), [Spoke() for _ in range(100)]
    for spoke in spokes:
        wheel.add(spoke)
    await eventually(lambda: all(spoke.beats >= 3 for spoke in spokes))
    for spoke in spokes:
        wheel.remove(spoke)
    wheel.remove(spokes[0])
    beats = [spoke.beats for spoke in spokes]
    assert wheel._timer is None
    assert len(wheel) == 0
    await asyncio.sleep(0.1)
    assert [spoke.beats for spoke in spokes] == beats


async def test_deadlines_pass_once_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    wheel, soon, later, moved = Wheel(beat_s=9, tick_s=0.01), Spoke(), Spoke(), Spoke()
    began = loop.time()
    wheel.add(soon, began + 0.05)
    wheel.add(later, began + 0.15)
    wheel.add(moved, began + 0.05)
    wheel.expire_at(moved, began + 0.2)
    await eventually(lambda: moved.expired_at is not None)
    for spoke, due in ((soon, 0.05), (later, 0.15), (moved, 0.2)):
        assert spoke.expired_at is not None
        assert due <= spoke.expired_at - began < due + 0.1
    for spoke in (soon, later, moved):
        wheel.remove(spoke)


async def test_removed_deadlines_take_no_memory() -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel()
    for _ in range(1000):
        spoke = Spoke()
        wheel.add(spoke, loop.time() + 86_400)
        wheel.remove(spoke)
    assert wheel._slot_of == {}
    assert sum(map(len, wheel._slots.values())) == 0
    assert len(wheel._slots) < 10
