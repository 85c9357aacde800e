"""Deliveries to real receivers: good, flaky, slow, dead, redirecting, and behind TLS."""

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import logging
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from taskcast_core.models import RetryConfig, WebhookConfig
from taskcast_server.webhooks.options import Retry, WebhookOptions
from taskcast_server.webhooks.outcomes import DeliveryFailed, Outcome
from taskcast_server.webhooks.sender import WebhookSender
from tests.fixtures.eventually import eventually
from tests.server.http_receiver import Got, Receiver, Reply

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

BODY = '{"id":"e1","data":"é"}'.encode()
PRIVATE = WebhookOptions(allow_private_networks=True)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as running:
        yield running


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    async with WebhookSender(PRIVATE) as opened:
        yield opened


async def deliver(sender: WebhookSender, url: str, *, attempt: int = 1, **config: Any) -> Outcome:
    return await sender.send(
        WebhookConfig(url, **config), BODY, event_type="llm.delta", event_id="e1", built_at_s=1234, attempt=attempt
    )


async def test_a_delivery(sender: WebhookSender, receiver: Receiver) -> None:
    outcome = await deliver(sender, receiver.url("/hook?x=1"), secret="s3cret")
    assert outcome.delivered and outcome.status == 200 and outcome.error is None
    (got,) = receiver.got
    assert (got.method, got.path, got.body) == ("POST", "/hook?x=1", BODY)
    assert got.headers["content-type"] == "application/json" and got.headers["x-taskcast-event"] == "llm.delta"
    assert got.headers["x-taskcast-timestamp"] == "1234" and got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["x-taskcast-signature"] == "sha256=" + hmac.new(b"s3cret", BODY, hashlib.sha256).hexdigest()
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 5
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    mac = base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{mac}"


async def test_a_flaky_receiver_gets_the_same_body_again(receiver: Receiver) -> None:
    plan = [Reply(500), Reply(hang_up=True), Reply(404), Reply(204)]
    receiver.answer = lambda _: plan.pop(0)
    clock = iter((1000.0, 2000.0, 3000.0, 4000.0))
    async with WebhookSender(PRIVATE, now_s=lambda: next(clock)) as sender:
        outcomes = [await deliver(sender, receiver.url(), secret="s", attempt=n) for n in (1, 2, 3, 4)]
    assert [each.delivered for each in outcomes] == [False, False, False, True]
    assert [each.status for each in outcomes] == [500, None, 404, 204]
    assert all(each.may_retry for each in outcomes) and outcomes[0].reason == "HTTP 500"
    assert len({got.body for got in receiver.got}) == len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert {got.headers["x-taskcast-timestamp"] for got in receiver.got} == {"1234"}
    assert [got.headers["x-taskcast-attempt"] for got in receiver.got] == ["1", "2", "3", "4"]
    assert [got.headers["webhook-timestamp"] for got in receiver.got] == ["1000", "2000", "3000", "4000"]
    assert len({got.headers["webhook-signature"] for got in receiver.got}) == 4


@pytest.mark.parametrize("status", [199 + 1, 201, 202, 204, 299, 300, 304, 400, 401, 410, 429, 500, 503])
async def test_only_2xx_is_a_success(sender: WebhookSender, receiver: Receiver, status: int) -> None:
    receiver.answer = lambda _: Reply(status, {"Location": "/elsewhere"})
    outcome = await deliver(sender, receiver.url())
    assert outcome.delivered is (200 <= status < 300) and outcome.status == status and len(receiver.got) == 1


async def test_a_dead_receiver(sender: WebhookSender) -> None:
    async with Receiver() as gone:
        url = gone.url()
    outcome = await deliver(sender, url)
    assert not outcome.delivered and outcome.may_retry and outcome.status is None and "ConnectError" in outcome.reason
    message = str(DeliveryFailed(4, outcome))
    assert message.startswith("Webhook delivery failed after 4 attempts: ConnectError")
    assert str(DeliveryFailed(2, Outcome(False, 5, 503))) == "Webhook delivery failed after 2 attempts: HTTP 503"


async def test_a_name_that_does_not_exist() -> None:
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with WebhookSender(PRIVATE, resolve=nowhere) as sender:
        outcome = await deliver(sender, "http://nowhere.example/")
    assert not outcome.delivered and outcome.may_retry and "not found" in outcome.reason


async def test_the_next_address_is_tried_when_one_is_dead(receiver: Receiver) -> None:
    async def two(_host: str, _port: int) -> Sequence[str]:
        return ["127.77.77.77", "127.0.0.1"]

    async with WebhookSender(PRIVATE, resolve=two) as sender:
        assert (await deliver(sender, receiver.url(host="two.example"))).delivered


async def never(_: Got) -> Reply:
    await asyncio.sleep(3600)
    raise AssertionError


async def test_a_slow_receiver_costs_its_own_timeout(receiver: Receiver) -> None:
    receiver.answer = never
    defaults = WebhookOptions(default_retry=Retry(timeout_ms=300), allow_private_networks=True)
    async with WebhookSender(defaults) as sender, asyncio.timeout(5):
        for retry, limit in ((None, 300), (RetryConfig(timeout_ms=100), 100)):
            outcome = await deliver(sender, receiver.url(), retry=retry)
            assert not outcome.delivered and outcome.may_retry and limit <= outcome.latency_ms < limit + 1500
            assert outcome.reason == f"no answer within {limit / 1000:g} s"


async def test_a_slow_name_server_counts_as_well() -> None:
    async def stuck(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(3600)
        return []

    async with WebhookSender(PRIVATE, resolve=stuck) as sender, asyncio.timeout(5):
        assert "no answer" in (await deliver(sender, "http://x.example/", retry=RetryConfig(timeout_ms=100))).reason


async def test_once_the_status_is_there_the_body_does_not_matter(sender: WebhookSender, receiver: Receiver) -> None:
    replies = [
        Reply(body_parts=(b"x" * 1000,) * 100, pause_s=0.05),  # drips for five seconds
        Reply(body_parts=(b"x" * 65_536,) * 200),  # 13 MB
        Reply(body_parts=(b"short",), length=5000),  # promises more than it sends
    ]
    for reply in replies:
        receiver.answer = lambda _, reply=reply: reply
        async with asyncio.timeout(3):
            outcome = await deliver(sender, receiver.url(), retry=RetryConfig(timeout_ms=400))
        assert outcome.delivered, outcome
    receiver.answer = lambda _: Reply()
    assert (await deliver(sender, receiver.url())).delivered, "the pool still works"


async def test_connections_are_used_again_and_bounded(receiver: Receiver) -> None:
    release = asyncio.Event()

    async def held(_: Got) -> Reply:
        await release.wait()
        return Reply()

    receiver.answer = held
    async with WebhookSender(WebhookOptions(allow_private_networks=True, max_connections=3)) as sender:
        sending = [asyncio.create_task(deliver(sender, receiver.url())) for _ in range(12)]
        await eventually(lambda: len(receiver.got) == 3)
        release.set()
        assert all(each.delivered for each in await asyncio.gather(*sending))
        assert receiver.connections == 3 and len(receiver.got) == 12


async def test_cancelling_gives_the_connection_back(receiver: Receiver) -> None:
    receiver.answer = never
    async with WebhookSender(WebhookOptions(allow_private_networks=True, max_connections=1)) as sender:
        for round_ in range(1, 6):
            sending = asyncio.create_task(deliver(sender, receiver.url()))
            await eventually(lambda round_=round_: len(receiver.got) == round_)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        receiver.answer = lambda _: Reply()
        assert (await deliver(sender, receiver.url())).delivered


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_repeat_the_post(sender: WebhookSender, receiver: Receiver, status: int) -> None:
    receiver.answer = lambda got: Reply() if got.path == "/new?x=1" else Reply(status, {"Location": "/new?x=1"})
    url = receiver.url().replace("http://", "http://user:p%40ss@")
    assert (await deliver(sender, url, secret="s")).delivered
    first, second = receiver.got
    assert second.method == "POST" and second.body == BODY and second.path == "/new?x=1"
    for name in ("x-taskcast-signature", "webhook-signature", "authorization", "webhook-id"):
        assert first.headers[name] == second.headers[name]
    assert first.headers["authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()


async def test_see_other_is_fetched_without_body_and_signatures(sender: WebhookSender, receiver: Receiver) -> None:
    receiver.answer = lambda got: Reply() if got.path == "/new" else Reply(303, {"Location": "/new"})
    assert (await deliver(sender, receiver.url(), secret="s")).delivered
    got = receiver.got[1]
    assert (got.method, got.body) == ("GET", b"") and "x-taskcast-signature" not in got.headers


async def test_signatures_and_credentials_stay_with_the_receiver_that_was_named(
    sender: WebhookSender, receiver: Receiver
) -> None:
    async with Receiver() as other:
        receiver.answer = lambda _: Reply(308, {"Location": other.url("/taken")})
        assert (await deliver(sender, receiver.url().replace("http://", "http://u:p@"), secret="s")).delivered
        (got,) = other.got
    assert got.body == BODY and got.headers["webhook-id"] == "e1"
    assert not {"x-taskcast-signature", "webhook-signature", "authorization"} & got.headers.keys()


async def test_redirects_end(sender: WebhookSender, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(307, {"Location": "/again"})
    outcome = await deliver(sender, receiver.url())
    assert not outcome.delivered and outcome.reason == "more than 3 redirects" and len(receiver.got) == 4


@pytest.mark.parametrize(
    "location", ["ftp://example.com/", "file:///etc/passwd", "http://[", "http://a b/", "/\\evil", "http://x:0/"]
)
async def test_redirects_to_what_is_no_http(sender: WebhookSender, receiver: Receiver, location: str) -> None:
    receiver.answer = lambda _: Reply(307, {"Location": location})
    outcome = await deliver(sender, receiver.url())
    assert not outcome.delivered and not outcome.may_retry and len(receiver.got) == 1


async def test_a_redirect_without_location_is_a_failure(sender: WebhookSender, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(302)
    assert (await deliver(sender, receiver.url())).reason == "HTTP 302"


async def test_a_bad_url_is_an_outcome_and_no_error(sender: WebhookSender) -> None:
    outcome = await deliver(sender, "gopher://example.com")
    assert (
        not outcome.delivered and not outcome.may_retry and outcome.reason == "must be an http or https URL with a host"
    )


async def test_what_is_no_http_answer(sender: WebhookSender) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await deliver(sender, f"http://127.0.0.1:{port}/")
    assert not outcome.delivered and outcome.may_retry and "ProtocolError" in outcome.reason


async def test_nothing_secret_is_logged(
    sender: WebhookSender, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = lambda _: Reply(500)
    secrets = ("hush-hush", "pa55word", "t0ken-in-path", "t0ken-in-query")
    url = receiver.url("/t0ken-in-path?key=t0ken-in-query").replace("http://", "http://user:pa55word@")
    with caplog.at_level(logging.DEBUG):
        outcome = await deliver(sender, url, secret="hush-hush")
    ours = "".join(each.getMessage() for each in caplog.records if each.name.startswith("taskcast"))
    assert outcome.reason == "HTTP 500"
    assert not any(secret in ours + repr(outcome) for secret in secrets)


# ── TLS ────────────────────────────────────────────────────────────────────────────────────────────────────


def certificate(directory: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server that is ``host``, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = directory / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=path.read_text().partition("-----BEGIN PRIVATE")[0])


async def to_loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_tls_verifies_the_name_although_the_address_was_resolved_here(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "receiver.example")
    names: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    async with Receiver(tls=server) as receiver:
        async with WebhookSender(PRIVATE, resolve=to_loopback, ssl_context=client) as sender:
            good = await deliver(sender, receiver.url(host="receiver.example"))
            impostor = await deliver(sender, receiver.url(host="impostor.example"))
        async with WebhookSender(PRIVATE, resolve=to_loopback) as distrustful:
            unknown = await deliver(distrustful, receiver.url(host="receiver.example"))
        assert good.delivered and len(receiver.got) == 1
    assert names[0] == "receiver.example" and receiver.got[0].headers["host"] == f"receiver.example:{receiver.port}"
    for refused in (impostor, unknown):
        assert not refused.delivered and refused.may_retry and "CERTIFICATE_VERIFY_FAILED" in refused.reason


async def test_no_redirect_leaves_tls(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "receiver.example")
    async with Receiver() as plain, Receiver(tls=server) as receiver:
        receiver.answer = lambda _: Reply(307, {"Location": plain.url(host="receiver.example")})
        async with WebhookSender(PRIVATE, resolve=to_loopback, ssl_context=client) as sender:
            outcome = await deliver(sender, receiver.url(host="receiver.example"))
        assert outcome.reason == "redirected from https to http" and plain.connections == 0
