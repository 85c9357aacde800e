"""The headers of a delivery, and what receivers verify in them.

Two schemes stand side by side, so that receivers of either kind verify with the code they have:

- ``X-Taskcast-Signature``: ``sha256=`` + hex HMAC-SHA256 of the exact body, key = the secret's UTF-8 bytes
  (wire spec). ``X-Taskcast-Timestamp`` is when the delivery was first built, the same on retries, and not part
  of that signature.
- ``webhook-id``, ``webhook-timestamp``, ``webhook-signature`` of Standard Webhooks: ``v1,`` + base64
  HMAC-SHA256 over ``id.timestamp.body``. A secret ``whsec_<base64>`` stands for the bytes it encodes; any other
  secret for its UTF-8 bytes. The id is the event's, the same on retries; the timestamp is that of the attempt,
  since receivers refuse old ones as replays.

Without a secret (or with an empty one) there are no signatures; all the other headers are sent.

"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from urllib.parse import quote

STANDARD_PREFIX = "whsec_"
SIGNATURE_HEADERS = frozenset({"X-Taskcast-Signature", "webhook-signature"})
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


def delivery_headers(
    secret: str | None,
    body: bytes,
    *,
    event_type: str,
    event_id: str,
    built_at_s: int,
    sent_at_s: int,
    attempt: int,
) -> dict[str, str]:
    """All headers of one attempt, but for those of HTTP itself. Times are Unix seconds; the first attempt is 1."""
    message_id = header_value(event_id)
    headers = {
        "Content-Type": "application/json",
        "X-Taskcast-Event": header_value(event_type),
        "X-Taskcast-Timestamp": str(built_at_s),
        "X-Taskcast-Attempt": str(attempt),
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at_s),
    }
    if secret:
        headers["X-Taskcast-Signature"] = body_signature(secret, body)
        headers["webhook-signature"] = standard_signature(secret, message_id, sent_at_s, body)
    return headers


def body_signature(secret: str, body: bytes) -> str:
    """``sha256=`` and the hex MAC of the body."""
    return "sha256=" + hmac.new(_utf8(secret), body, hashlib.sha256).hexdigest()


def standard_signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """``v1,`` and the base64 MAC over id, timestamp and body."""
    signed = b"%b.%d.%b" % (message_id.encode("ascii"), timestamp_s, body)
    return "v1," + base64.b64encode(hmac.digest(standard_key(secret), signed, "sha256")).decode("ascii")


def standard_key(secret: str) -> bytes:
    """The key that a secret stands for under Standard Webhooks; one that does not decode is taken as it is written."""
    if secret.startswith(STANDARD_PREFIX):
        try:
            return base64.b64decode(secret[len(STANDARD_PREFIX) :], validate=True) or _utf8(secret)
        except (binascii.Error, ValueError):
            return _utf8(secret)
    return _utf8(secret)


def header_value(text: str) -> str:
    """A text as header value: visible ASCII as it is, all else percent-encoded, so that nothing can be smuggled in."""
    return quote(text, safe=_VISIBLE, errors="surrogatepass")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
