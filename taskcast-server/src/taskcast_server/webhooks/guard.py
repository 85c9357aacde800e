"""Keeps deliveries out of our own network (server-side request forgery).

The check stands where the connection is made: the name is resolved here, every address is judged, and the
connection goes to the very address that was judged. So a name that resolves differently the next time (DNS
rebinding), an odd spelling of 127.0.0.1, or a redirect to another host changes nothing: each new connection
comes by here. TLS still verifies the name.

"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import httpcore

from taskcast_core.errors import TaskcastError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → addresses; raises OSError when there are none."""

_MAX_ADDRESSES = 4
_RESOLVER_THREADS = 8

# Reserved, although not every supported Python's ``is_global`` knows it.
_RESERVED = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16", "64:ff9b:1::/48", "fec0::/10"))
)  # fmt: skip
# What clouds answer credentials on; refused whatever the settings say.
_METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200",
                     "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"))
)  # fmt: skip
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")


class TargetRefused(TaskcastError):
    """The receiver is in a network that deliveries must not reach; trying again would not help."""

    code = "webhook_target_refused"

    def __init__(self, reason: str = "the host has no public address") -> None:
        super().__init__(f"refused: {reason}")


def is_allowed(address: str, *, allow_private: bool) -> bool:
    """Whether a delivery may go to this IP address.

    Addresses that carry another one inside (IPv4-mapped, NAT64, 6to4, Teredo) are judged by both.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return all(_is_allowed(each, allow_private=allow_private) for each in (parsed, *_embedded(parsed)))


def _is_allowed(address: IPv4Address | IPv6Address, *, allow_private: bool) -> bool:
    if address.is_multicast or address.is_unspecified or _without_scope(address) in _METADATA:
        return False
    if isinstance(address, IPv4Address) and address == IPv4Address("255.255.255.255"):
        return False
    if allow_private:
        return True
    if isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64):
        return True  # only another way to write the embedded one, which decides
    reserved = any(address.version == network.version and address in network for network in _RESERVED)
    return address.is_global and not address.is_reserved and not reserved


def _embedded(address: IPv4Address | IPv6Address) -> Iterable[IPv4Address]:
    if isinstance(address, IPv4Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


def _without_scope(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return IPv6Address(int(address)) if isinstance(address, IPv6Address) else address


class SystemResolver:
    """The system's resolver, in threads of its own: a name server that hangs holds up deliveries and nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="webhook-resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host; raises OSError when there are none."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, self._look_up, host, port)
        except UnicodeError as error:
            raise OSError("not a host name") from error
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Forget what is waiting; does not wait for look-ups under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _look_up(host: str, port: int) -> list[str]:
        return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Makes the connections of a pool, to allowed addresses only."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge, connect to the first allowed address that answers.

        Raises:
            TargetRefused: no address of the host is allowed. ConnectError, ConnectTimeout: as httpcore means them.
        """
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"host not found: {error.strerror or error}") from error
        allowed = [each for each in addresses if is_allowed(each, allow_private=self._allow_private)]
        if not allowed:
            raise TargetRefused
        failure: Exception = httpcore.ConnectError("no address")
        for address in allowed[:_MAX_ADDRESSES]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no receiver listens there."""
        raise TargetRefused("not a network address")

    async def sleep(self, seconds: float) -> None:
        """Wait; httpcore asks for it between attempts of its own, of which we want none."""
        await self._network.sleep(seconds)
