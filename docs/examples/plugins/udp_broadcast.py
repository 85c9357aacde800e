"""A broadcast for the processes of one machine: bells are datagrams to the ports whose files lie in a folder."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path

from attrs import evolve, field, frozen

from taskcast_core import Registry, hookimpl, portable, wire
from taskcast_core.contracts import ALL_TASKS, Bell, Listener


@frozen
class UdpBroadcast:
    folder: Path  # `adapters.broadcast.folder`, beside `provider: udp`; it has to exist
    is_shared = True

    def publish(self, bell: Bell) -> None:
        fits = sum(len(entry.text) for entry in bell.entries) < 20_000  # else listeners read them from the store
        text = wire.dumps(portable.to_plain(bell if fits else evolve(bell, entries=()), Bell))
        with socket.socket(type=socket.SOCK_DGRAM) as out:
            for port in self.folder.glob("*"):
                with suppress(OSError):  # a bell may be lost
                    out.sendto(text, socket.MSG_DONTWAIT, ("127.0.0.1", int(port.name)))

    @asynccontextmanager
    async def listen(self, on_bell: Callable[[Bell], None], on_absence: object) -> AsyncIterator[Listener]:
        open_port = asyncio.get_running_loop().create_datagram_endpoint
        transport, ear = await open_port(lambda: Ear(on_bell), ("127.0.0.1", 0))
        port = self.folder / str(transport.get_extra_info("sockname")[1])
        port.touch()
        try:
            yield ear
        finally:
            port.unlink()
            transport.close()


@frozen
class Ear(asyncio.DatagramProtocol):
    on_bell: Callable[[Bell], None]
    channels: set[str] = field(factory=set)

    def datagram_received(self, data: bytes, addr: object) -> None:
        bell: Bell = portable.of_plain(wire.loads(data), Bell)
        if not self.channels.isdisjoint((bell.channel, ALL_TASKS)):
            self.on_bell(bell)

    async def follow(self, channels: Iterable[str]) -> None:
        self.channels.update(channels)

    async def unfollow(self, channels: Iterable[str]) -> None:
        self.channels.difference_update(channels)


@hookimpl
def taskcast_broadcasts(registry: Registry) -> None:
    registry.add("udp", nullcontext, options=UdpBroadcast)
