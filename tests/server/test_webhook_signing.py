"""What receivers verify, computed here by hand."""

import base64
import hashlib
import hmac

import pytest

from taskcast_server.webhooks.signing import delivery_headers, header_value

BODY = '{"id":"1","data":"é🎉"}'.encode()


def headers(secret: str | None, **changes: object) -> dict[str, str]:
    facts: dict[str, object] = {"event_type": "llm.delta", "event_id": "01EVENT", "built_at_s": 100, "sent_at_s": 250,
                                "attempt": 2}  # fmt: skip
    return delivery_headers(secret, BODY, **(facts | changes))  # type: ignore[arg-type]


def test_the_headers_of_the_wire_spec() -> None:
    sent = headers("s3cret")
    assert sent["Content-Type"] == "application/json" and sent["X-Taskcast-Event"] == "llm.delta"
    assert sent["X-Taskcast-Timestamp"] == "100" and sent["X-Taskcast-Attempt"] == "2"
    assert sent["X-Taskcast-Signature"] == "sha256=" + hmac.new(b"s3cret", BODY, hashlib.sha256).hexdigest()


def test_a_known_signature() -> None:
    # RFC 4231, test case 2.
    sent = delivery_headers("Jefe", b"what do ya want for nothing?", event_type="x", event_id="y",
                            built_at_s=1, sent_at_s=1, attempt=1)  # fmt: skip
    assert sent["X-Taskcast-Signature"] == ("sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")


def test_a_known_standard_webhooks_signature() -> None:
    # The example of the libraries of Standard Webhooks.
    sent = delivery_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}', event_type="x",
        event_id="msg_p5jXN8AQM9LWM0D4loKWxJek", built_at_s=1, sent_at_s=1614265330, attempt=1,
    )  # fmt: skip
    assert sent["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("s3cret", b"s3cret"),
        ("geheim-é", "geheim-é".encode()),
        (
            "whsec_" + base64.b64encode(b"thirty-two bytes of randomness!!").decode(),
            b"thirty-two bytes of randomness!!",
        ),
        ("whsec_not base64!", b"whsec_not base64!"),
        ("whsec_", b"whsec_"),
    ],
)
def test_standard_webhooks(secret: str, key: bytes) -> None:
    sent = headers(secret)
    assert sent["webhook-id"] == "01EVENT" and sent["webhook-timestamp"] == "250"
    mac = hmac.new(key, b"01EVENT.250." + BODY, hashlib.sha256).digest()
    assert sent["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    whole = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    assert sent["X-Taskcast-Signature"] == "sha256=" + whole, "the older scheme takes the secret as it is written"


def test_an_old_body_cannot_be_given_a_new_time() -> None:
    old, new = headers("s3cret"), headers("s3cret", sent_at_s=9999)
    assert old["webhook-signature"] != new["webhook-signature"]
    assert old["X-Taskcast-Timestamp"] == new["X-Taskcast-Timestamp"]


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_nothing_is_signed(secret: str | None) -> None:
    sent = headers(secret)
    assert not {name.lower() for name in sent} & {"x-taskcast-signature", "webhook-signature"}
    assert sent["webhook-id"] == "01EVENT"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("taskcast:status", "taskcast:status"),
        ("a b", "a%20b"),
        ("x\r\nX-Evil: 1", "x%0D%0AX-Evil:%201"),
        ("é", "%C3%A9"),
        ("\x00", "%00"),
        ("\ud800", "%ED%A0%80"),
        ("", ""),
    ],
)
def test_nothing_can_be_smuggled_into_a_header(text: str, value: str) -> None:
    assert header_value(text) == value
    assert headers("s", event_type=text, event_id=text)["X-Taskcast-Event"] == value
