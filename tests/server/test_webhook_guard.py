"""No delivery reaches our own network, whatever the URL, the name server or the receiver say."""

import ipaddress
from collections.abc import AsyncIterator, Sequence

import pytest

from taskcast_core.models import RetryConfig, WebhookConfig
from taskcast_server.webhooks.guard import is_allowed
from taskcast_server.webhooks.options import WebhookOptions
from taskcast_server.webhooks.sender import Outcome, WebhookSender
from tests.server.http_receiver import Receiver, Reply

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

REFUSED = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1",
    "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "0.0.0.0", "0.1.2.3", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::", "3fff::1", "5f00::1", "not an address", "", "1.2.3.4.5",
]  # fmt: skip
ALLOWED = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
NEVER = [
    "169.254.169.254", "::ffff:169.254.169.254", "168.63.129.16", "fd00:ec2::254", "100.100.100.200", "0.0.0.0",
    "::", "224.0.0.1", "ff02::1", "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_allowed(address, allow_private=False)


@pytest.mark.parametrize("address", ALLOWED)
def test_addresses_that_are(address: str) -> None:
    assert is_allowed(address, allow_private=False) and is_allowed(address, allow_private=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fe80::1", "fc00::1", "100.64.0.1"])
def test_private_networks_can_be_allowed(address: str) -> None:
    assert is_allowed(address, allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_what_clouds_answer_secrets_on_is_never_allowed(address: str) -> None:
    assert not is_allowed(address, allow_private=True)


@pytest.mark.parametrize("network", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16",
                                     "100.64.0.0/10", "fc00::/7", "fe80::/10"])  # fmt: skip
def test_the_ends_of_each_private_network(network: str) -> None:
    parsed = ipaddress.ip_network(network)
    for address in (parsed[0], parsed[-1], parsed[parsed.num_addresses // 2]):
        assert not is_allowed(str(address), allow_private=False)


@pytest.fixture
async def inside() -> AsyncIterator[Receiver]:
    """A service in our own network."""
    async with Receiver() as running:
        yield running


async def deliver(sender: WebhookSender, url: str) -> Outcome:
    config = WebhookConfig(url, secret="s", retry=RetryConfig(timeout_ms=4000))
    return await sender.send(config, b"{}", event_type="x", event_id="e", built_at_s=1)


SPELLINGS = [
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0x7f.1:{port}/",
    "http://017700000001:{port}/", "http://0177.0.0.1:{port}/", "http://127.1:{port}/", "http://0:{port}/",
    "http://0.0.0.0:{port}/", "http://[::]:{port}/", "http://user:pass@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/", "http://example.com%2f@127.0.0.1:{port}/", "http://127.0.0.1:{port}/#@example.com",
    "http://example.com:80@127.0.0.1:{port}/", "http://\uff11\uff12\uff17.0.0.1:{port}/", "http://127\u30020.0.1:{port}/",
    "HTTP://LOCALHOST:{port}/", "http://[64:ff9b::7f00:1]:{port}/", "http://[::127.0.0.1]:{port}/",
    "http://example.com\\@127.0.0.1:{port}/", "https://127.0.0.1:{port}/",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_loopback_gets_through(inside: Receiver, spelling: str) -> None:
    async with WebhookSender() as sender:
        outcome = await deliver(sender, spelling.format(port=inside.port))
    assert not outcome.delivered and inside.connections == 0
    assert outcome.error and not outcome.may_retry, outcome


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00:ec2::254"])
async def test_no_name_that_resolves_into_our_network(inside: Receiver, address: str) -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return [address]

    async with WebhookSender(resolve=resolve) as sender:
        outcome = await deliver(sender, inside.url(host="innocent.example"))
    assert not outcome.delivered and not outcome.may_retry and inside.connections == 0
    assert address not in outcome.reason, "what a name resolves to inside is nobody's business"


class Rebinding:
    """A name server that gives another answer each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


async def test_the_address_that_was_judged_is_the_one_that_is_used(inside: Receiver) -> None:
    # Loopback stands for the public address here; what the name means the next time is forbidden in any case.
    resolve = Rebinding(["127.0.0.1"], ["169.254.169.254"])
    inside.answer = lambda _: Reply(headers={"Connection": "close"})
    async with WebhookSender(WebhookOptions(allow_private_networks=True), resolve=resolve) as sender:
        first = await deliver(sender, inside.url(host="rebind.example"))
        assert first.delivered and resolve.asked == ["rebind.example"], "judged and used in one look-up"
        assert inside.got[0].headers["host"] == f"rebind.example:{inside.port}"
        second = await deliver(sender, inside.url(host="rebind.example"))
    assert not second.delivered and not second.may_retry and inside.connections == 1


async def test_every_connection_is_judged_anew(inside: Receiver) -> None:
    resolve = Rebinding(["10.0.0.1"], ["127.0.0.1"], ["::1"])
    async with WebhookSender(resolve=resolve) as sender:
        for _ in range(3):
            assert not (await deliver(sender, inside.url(host="rebind.example"))).delivered
    assert inside.connections == 0 and len(resolve.asked) == 3


async def test_of_many_addresses_only_the_allowed_ones_are_tried(inside: Receiver) -> None:
    resolve = Rebinding(["169.254.169.254", "127.0.0.1"])
    async with WebhookSender(WebhookOptions(allow_private_networks=True), resolve=resolve) as sender:
        assert (await deliver(sender, inside.url(host="many.example"))).delivered


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/", "http://0.0.0.0:1/",
     "http://2852039166/"],
)  # fmt: skip
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_into_our_network(inside: Receiver, target: str, status: int) -> None:
    inside.answer = lambda _: Reply(status, {"Location": target})
    async with WebhookSender(WebhookOptions(allow_private_networks=True)) as sender:
        outcome = await deliver(sender, inside.url())
    assert not outcome.delivered and not outcome.may_retry and len(inside.got) == 1
    assert outcome.error and "refused" in outcome.error


async def test_a_redirect_by_name_is_judged_when_it_connects(inside: Receiver) -> None:
    async def resolve(host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"] if host == "outside.example" else ["169.254.169.254"]

    inside.answer = lambda _: Reply(307, {"Location": "http://inside.example/"})
    async with WebhookSender(WebhookOptions(allow_private_networks=True), resolve=resolve) as sender:
        outcome = await deliver(sender, inside.url(host="outside.example"))
    assert not outcome.delivered and len(inside.got) == 1


async def test_proxies_of_the_environment_are_ignored(inside: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url("/"))
        async with WebhookSender(WebhookOptions(allow_private_networks=True)) as sender:
            assert (await deliver(sender, inside.url())).delivered
        async with WebhookSender() as sender:
            assert not (await deliver(sender, inside.url())).delivered
        assert proxy.connections == 0 and inside.connections == 1
